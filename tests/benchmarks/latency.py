"""From submission to the start of the handler, open loop, beside the bare chain of the same run.

The moment before `submit` and the moment that the handler sees are of one clock: both are monotonic, of one
machine. Gaps are exponential, and a late turn of the loop is not forgiven: the clock starts when it was due.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from benchmarks.measure import Figure, quantile
from benchmarks.yardsticks import bare_chain, bare_server
from echelon import Client
from echelon.handle import Handle
from support.cluster import Cluster

APP = Path(__file__).with_name("app.py")
RATES = (170, 1000)
WARM = 100


async def open_loop(client: Client, rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from when each task was due to be submitted until its handler began."""
    chance = random.Random(seed)
    due = time.monotonic() + 0.1
    pending: list[asyncio.Task[tuple[float, Handle[float]]]] = []

    async def one(at: float) -> tuple[float, Handle[float]]:
        return at, await client.submit("began")

    for _ in range(int(rate * seconds) + WARM):
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        pending.append(asyncio.create_task(one(due)))
        due += chance.expovariate(rate)
    sent = [await task for task in pending]
    starts = await client.results([handle for _, handle in sent], timeout=60)
    return [began - at for (at, _), began in zip(sent, starts, strict=True)][WARM:]


async def measure(folder: Path, runs: int, seconds: float) -> list[Figure]:
    figures = []
    cluster = Cluster(folder, app=APP)
    await cluster.start()
    try:
        async with cluster.client() as client:
            await open_loop(client, 500, 1, 0)
            for rate in RATES:
                figures += await _at(client, rate, runs, seconds)
    finally:
        await cluster.stop()
        cluster.end()
    return figures


async def _at(client: Client, rate: float, runs: int, seconds: float) -> list[Figure]:
    ours, bare = [], []
    for seed in range(runs):
        with bare_server() as url:
            bare.append(await bare_chain(url, rate, seconds, seed))
        ours.append(await open_loop(client, rate, seconds, seed))
    made = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine = [quantile(values, share) * 1e3 for values in ours]
        theirs = [quantile(values, share) * 1e3 for values in bare]
        made += [
            Figure(f"latency.{rate}.{name}", "ms", mine),
            Figure(f"latency.{rate}.{name}.bare", "ms", theirs),
            Figure(f"latency.{rate}.{name}.ratio", "×", [a / b for a, b in zip(mine, theirs, strict=True)]),
        ]
    return made
