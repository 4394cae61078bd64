"""How numbers and times read on a page. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0, 0.0004, 0.025, 0.84, 3.84, 61, 300, 4000, 200000)]
    ['0 ms', '0.4 ms', '25 ms', '0.84 s', '3.8 s', '1 min 01 s', '5 min', '1 h 06 min', '2 d 07 h']
    """
    if seconds < 0.01:
        return f"{seconds * 1000:.1f}".removesuffix(".0") + " ms"
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, word, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= large:
            more = whole % large // small
            return f"{whole // large} {word} {more:02} {rest}" if more else f"{whole // large} {word}"
    return f"{whole} s"


def count(number: float) -> str:
    """
    >>> count(1234567), count(0)
    ('1,234,567', '0')
    """
    return f"{number:,.0f}"


def rate(per_s: float) -> str:
    """
    >>> [rate(r) for r in (0, 0.04, 0.5, 12.34, 1234)]
    ['0', '0.04', '0.5', '12', '1,234']
    """
    if 0 < per_s < 0.1:
        return f"{per_s:.2f}"
    if per_s < 10:
        return f"{per_s:.1f}".removesuffix(".0")
    return f"{per_s:,.0f}"


def plural(number: int, one: str, many: str = "") -> str:
    """
    >>> plural(1, "task"), plural(2000, "task")
    ('1 task', '2,000 tasks')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(octets: int) -> str:
    """
    >>> size(17), size(1234), size(5_000_000)
    ('17 bytes', '1.2 KiB', '4.8 MiB')
    """
    if octets < 1024:
        return f"{octets} bytes"
    if octets < 1024**2:
        return f"{octets / 1024:.1f} KiB"
    return f"{octets / 1024**2:.1f} MiB"


def clock(at: float, now: float, *, fine: bool = False) -> str:
    """Time of day in UTC, with the date if it is another day's.

    >>> clock(0, 10), clock(0.5, 90000, fine=True)
    ('00:00:00', '1970-01-01 00:00:00.500')
    """
    moment = datetime.fromtimestamp(at, UTC)
    text = moment.strftime("%H:%M:%S")
    if fine:
        text += f".{moment.microsecond // 1000:03}"
    return text if moment.date() == datetime.fromtimestamp(now, UTC).date() else f"{moment:%Y-%m-%d} {text}"


def stamp(at: float) -> str:
    """For `<time datetime>`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
