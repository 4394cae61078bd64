"""Bytes that a queued task costs beside its payload, master and regions together, with half a million queued.

The tasks are of a type that nobody offers, so all of them wait at the master, as a backlog does: regions hold
no more than their credit, which was filled and emptied before the first look.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.drain import drain
from benchmarks.measure import Figure, rss
from echelon import remote
from support.cluster import Cluster

APP = Path(__file__).with_name("app.py")
WARM = 50_000


async def once(folder: Path, tasks: int) -> float:
    """Bytes a task."""
    cluster = Cluster(folder, app=APP)
    await cluster.start()
    try:
        await drain(cluster, WARM)
        pids = [pid for name, pid in cluster.pids().items() if name.startswith(("master", "regional"))]
        before = rss(pids)
        payload = remote("nobody-offers-this").bind(n=123456)
        async with cluster.client() as client:
            async for _ in client.submit_chunks(payload for _ in range(tasks)):
                pass
        return (rss(pids) - before) / tasks - len(payload.payload)
    finally:
        await cluster.stop()
        cluster.end()


async def measure(folder: Path, runs: int, tasks: int) -> list[Figure]:
    values = []
    for run in range(runs):
        own = folder / str(run)
        own.mkdir()
        values.append(await once(own, tasks))
    return [Figure("memory.queued", "bytes", values)]
