"""From `echelon up` in an empty folder to the first task done, its result in the client's hands."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.measure import Figure
from echelon.errors import EchelonError
from echelon_ops.folder import running
from support.cluster import Cluster

APP = Path(__file__).with_name("app.py")


async def once(folder: Path) -> float:
    """Seconds. The client comes as soon as there is an address, as an impatient person does."""
    cluster = Cluster(folder, app=APP)
    began = time.perf_counter()
    cluster.spawn()
    try:
        while running(cluster.data) is None:
            assert cluster.alive(), cluster.said()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            await _first_result(cluster)
        return time.perf_counter() - began
    finally:
        await cluster.stop()
        cluster.end()


async def _first_result(cluster: Cluster) -> None:
    while True:
        try:
            async with cluster.client() as client:
                await (await client.submit("began")).result()
                return
        except EchelonError:
            await asyncio.sleep(0.02)


async def measure(folder: Path, runs: int) -> list[Figure]:
    values = []
    for run in range(runs):
        own = folder / str(run)
        own.mkdir()
        values.append(await once(own))
    return [Figure("start.first_task", "s", values)]
