"""What the status line of `up` says, read from the web node: it counts all that has ended anyway."""

from __future__ import annotations

import time

import msgspec

from echelon_ops.fetch import get


class Figures(msgspec.Struct, frozen=True):
    """The whole system at one moment. `at`: monotonic seconds."""

    at: float
    done: int  # tasks that have ended
    waiting: int
    running: int
    workers: dict[str, int]  # region -> workers; a region without a leader is not in it

    def ready(self, regions: int, workers: int) -> bool:
        """Are so many regions led, each with so many workers?"""
        return sum(1 for count in self.workers.values() if count >= workers) >= regions


class _Region(msgspec.Struct):
    region: str
    status: str
    workers: int


class _Regions(msgspec.Struct):
    items: list[_Region]


class _Tasks(msgspec.Struct):
    total: int


_regions = msgspec.json.Decoder(_Regions).decode
_tasks = msgspec.json.Decoder(_Tasks).decode


async def read_figures(base: str) -> Figures | None:
    """From the web node at `base`; None while it does not answer."""
    regions = await get(f"{base}/api/regions")
    if regions is None or regions.status != 200:
        return None
    counts = []
    for query in ("", "&status=pending", "&status=running"):
        answer = await get(f"{base}/api/tasks?limit=1{query}")
        if answer is None or answer.status != 200:
            return None
        counts.append(_tasks(answer.body).total)
    every, waiting, running = counts
    return Figures(
        at=time.monotonic(),
        done=max(0, every - waiting - running),
        waiting=waiting,
        running=running,
        workers={each.region: each.workers for each in _regions(regions.body).items if each.status == "up"},
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
