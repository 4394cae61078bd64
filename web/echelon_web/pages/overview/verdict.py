"""The sentence at the top of the overview: what is true, why, what to do. Pure, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from echelon_web.pages.words import count, duration, plural, rate

GROWS_PER_MIN: Final = 60
WAITING: Final = "/ui/tasks?status=pending"
FAILED: Final = "/ui/tasks?status=failed"
WORKERS: Final = "/ui/#workers"


class Facts(NamedTuple):
    now: float
    tasks: int
    pending: int
    failed: int
    leads: bool
    silent_regions: tuple[str, ...]
    regions: int
    silent_workers: tuple[str, ...]
    workers: int
    busy: int
    slots: int
    homeless: tuple[tuple[str, int], ...]  # (type, tasks) that no living worker offers
    oldest_s: float
    came: float  # a second
    went: float
    succeeded: int
    failed_lately: int
    failed_hour: int
    cut_off: bool


class Link(NamedTuple):
    text: str
    href: str = ""
    after: str = ""
    code: str = ""


class Verdict(NamedTuple):
    """`second` and `third`: a heading and up to three lines each."""

    health: str
    title: str
    text: str
    second: tuple[str, list[Link]]
    third: tuple[str, list[Link]]


def verdict(facts: Facts) -> Verdict:
    troubles = _troubles(facts)
    if not troubles:
        return _well(facts)
    worst = troubles[0]
    whys = [trouble.why for trouble in troubles][:3]
    mends = list(dict.fromkeys(trouble.mend for trouble in troubles))[:3]
    return Verdict(worst.health, worst.title, _state(facts), ("Why", whys), ("What to do", mends))


class Trouble(NamedTuple):
    title: str
    health: str
    why: Link
    mend: Link


def _troubles(facts: Facts) -> list[Trouble]:
    """Worst first."""
    return [*_missing(facts), *_slow(facts)]


def _missing(facts: Facts) -> Iterator[Trouble]:
    """Who is not there."""
    if facts.cut_off:
        why = Link("This node has lost its connection to NATS")
        yield Trouble(
            "Cut off from the broker", "bad", why, Link("See what is wrong:", code="echelon doctor")
        )
    if not facts.leads:
        why = Link("Nothing is admitted, placed or settled until one does")
        yield Trouble("No master leads", "bad", why, Link("Start one:", code="echelon master"))
    for name in facts.silent_regions:
        why = Link(f"Region {name} has not reported for more than 3 s")
        mend = Link("Start its scheduler:", code=f"echelon regional --region {name}")
        yield Trouble(f"{name} is silent", "bad", why, mend)
    start = Link("Start one:", code="echelon worker --app FILE")
    if not facts.workers:
        why = Link(
            "Nothing can run", after=f": {plural(facts.pending, 'task')} waiting" if facts.pending else ""
        )
        yield Trouble("No worker is up", "bad" if facts.pending else "warn", why, start)
    elif facts.homeless:
        kind, tasks = facts.homeless[0]
        more = len(facts.homeless) - 1
        others = f" and {plural(more, 'other type')}" if more else ""
        why = Link(plural(tasks, "task"), WAITING, f" of type {kind}{others} waiting for a worker")
        mend = Link("Start a worker that has it:", code="echelon worker --app FILE")
        yield Trouble(f"Nobody offers {kind}", "warn", why, mend)
    if facts.silent_workers:
        names = ", ".join(facts.silent_workers[:3])
        why = Link(names, WORKERS, ": its lease is over, what it held runs again elsewhere")
        title = f"{plural(len(facts.silent_workers), 'worker')} fell silent"
        yield Trouble(title, "warn", why, Link("See which", WORKERS))


def _slow(facts: Facts) -> Iterator[Trouble]:
    """What goes worse than it should."""
    grows = (facts.came - facts.went) * 60
    if grows > GROWS_PER_MIN and facts.oldest_s > 60:
        why = Link(f"{rate(facts.came)}/s come in and {rate(facts.went)}/s go out")
        yield Trouble("The backlog grows", "warn", why, Link("Add workers, or send less"))
    ended = facts.succeeded + facts.failed_lately
    if ended and facts.failed_lately > 0.01 * ended:
        why = Link(f"{facts.failed_lately:,} of {ended:,}", FAILED, " ended badly in 15 min")
        title = f"{100 * facts.failed_lately / ended:.3g} % of tasks fail"
        yield Trouble(title, "warn", why, Link("Open the failed ones", FAILED))


def _state(facts: Facts) -> str:
    said = f"{plural(facts.pending, 'task')} waiting, {plural(facts.workers, 'worker')} up."
    if facts.oldest_s:
        said += f" The oldest ready task has waited {duration(facts.oldest_s)}."
    return f"{said} No task is lost."


def _well(facts: Facts) -> Verdict:
    free = facts.slots - facts.busy
    up = Link(f"{plural(facts.workers, 'worker')} up, {count(free)} of {count(facts.slots)} slots free")
    if not facts.tasks:
        begin = Link("Run the demo:", code="echelon demo census")
        text = "Master, regions and workers are up; nothing was submitted yet."
        return Verdict("ok", "Ready for work", text, ("Now", [up]), ("To begin", [begin]))
    regions = "The region meets" if facts.regions == 1 else f"All {facts.regions} regions meet"
    oldest = (
        f"The oldest ready task is {duration(facts.oldest_s)} old." if facts.oldest_s else "Nothing waits."
    )
    flows = Link(f"{rate(facts.came)} tasks a second in, {rate(facts.went)} out")
    trouble = Link("Nothing failed in the last hour")
    if facts.failed_hour:
        trouble = Link(f"{facts.failed_hour:,} failed", FAILED, " in the last hour")
    title = "Everything flows" if facts.pending or facts.came else "All is done"
    text = f"{regions} every goal. {oldest}"
    return Verdict("ok", title, text, ("Now", [flows, up]), ("Last trouble", [trouble]))
