"""What the status line of `up` says, read from the web node: it counts all that has ended anyway."""

from __future__ import annotations

import time

import msgspec

from echelon_ops.http import get


class Figures(msgspec.Struct, frozen=True):
    """The whole system at one moment. `at`: monotonic seconds."""

    at: float
    done: int  # tasks that have ended
    waiting: int
    running: int
    workers: dict[str, int]  # region -> workers; a region without a leader is not in it

    @property
    def regions_ready(self) -> int:
        return sum(1 for count in self.workers.values() if count)


class _Region(msgspec.Struct):
    region: str
    workers: int = 0
    alive: bool = True


class _Regions(msgspec.Struct):
    items: list[_Region]


class _Stats(msgspec.Struct):
    tasks: dict[str, int]


_regions = msgspec.json.Decoder(_Regions).decode
_stats = msgspec.json.Decoder(_Stats).decode


async def read_figures(host: str, port: int) -> Figures | None:
    """None while the web node does not answer."""
    base = f"http://{host}:{port}/api"
    regions, stats = await get(f"{base}/regions"), await get(f"{base}/stats")
    if regions is None or stats is None or (regions.status, stats.status) != (200, 200):
        return None
    try:
        by_region, counts = _regions(regions.body).items, _stats(stats.body).tasks
    except msgspec.DecodeError:
        return None
    return Figures(
        at=time.monotonic(),
        done=sum(counts.get(status, 0) for status in ("completed", "failed", "cancelled")),
        waiting=counts.get("pending", 0),
        running=counts.get("running", 0),
        workers={region.region: region.workers for region in by_region if region.alive},
    )


def status_line(now: Figures, before: Figures | None) -> str:
    """
    >>> east = {"east": 1, "west": 2}
    >>> status_line(Figures(11.0, 1790, 12, 4, east), Figures(10.0, 1700, 0, 0, east))
    '1,790 tasks done · 90/s · 12 waiting · 4 running · 3 workers'
    """
    rate = 0.0
    if before is not None and now.at > before.at:
        rate = max(0.0, (now.done - before.done) / (now.at - before.at))
    workers = sum(now.workers.values())
    parts = [
        f"{now.done:,} tasks done",
        f"{rate:,.0f}/s",
        f"{now.waiting:,} waiting",
        f"{now.running:,} running",
        f"{workers} worker{'' if workers == 1 else 's'}" if workers else "no worker",
    ]
    return " · ".join(parts)
