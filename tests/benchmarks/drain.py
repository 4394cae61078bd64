"""No-op async tasks in bulk through `echelon up` with everything on: CPU a task, and tasks a second.

CPU counts: microseconds of CPU a task, process by process, from the first submission until the read model
shows the last end. Tasks a second are told as a ratio to the plain loop of the same run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Figure, cpu_s
from benchmarks.yardsticks import bare_server, plain_loop
from echelon import remote
from support.cluster import Cluster
from support.eventually import eventually

APP = Path(__file__).with_name("app.py")
GROUPS = ("nats-server", "master", "regional", "worker", "children", "web", "up")


class Drained(NamedTuple):
    seconds: float
    cpu_us: Mapping[str, float]  # group of processes -> microseconds a task
    client_us: float


async def drain(cluster: Cluster, tasks: int) -> Drained:
    """Submit so many and wait until all have ended."""
    before = await _completed(cluster)
    cpu, own, began = _cpu(cluster), _own_cpu(), time.perf_counter()
    async with cluster.client() as client:
        submissions = (remote("noop").bind() for _ in range(tasks))
        async for _ in client.submit_chunks(submissions):
            pass
        submitted = _own_cpu()

        async def done() -> bool:
            return await _completed(cluster) >= before + tasks

        await eventually(done, timeout_s=300, every_s=0.1)
    seconds = time.perf_counter() - began
    used = {group: (after - cpu[group]) / tasks * 1e6 for group, after in _cpu(cluster).items()}
    return Drained(seconds, used, (submitted - own) / tasks * 1e6)


async def _completed(cluster: Cluster) -> int:
    return int((await cluster.get("/api/tasks?status=completed&limit=1"))["total"])


def _cpu(cluster: Cluster) -> dict[str, float]:
    """CPU seconds by group, of all processes of this cluster."""
    used = dict.fromkeys(GROUPS, 0.0)
    for name, pid in cluster.pids().items():
        used[next(group for group in GROUPS if name.startswith(group))] += cpu_s([pid])
        if name.startswith("worker"):
            used["children"] += cpu_s(cluster.children_of(name))
    used["up"] = cpu_s([cluster.up_pid])
    return used


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system


async def measure(folder: Path, runs: int, tasks: int) -> list[Figure]:
    drained, plain = [], []
    cluster = Cluster(folder, app=APP)
    await cluster.start()
    try:
        await drain(cluster, tasks // 10)  # paths walked once, means learnt
        for _ in range(runs):
            with bare_server() as url:
                plain.append(await plain_loop(url))
            drained.append(await drain(cluster, tasks))
            await asyncio.sleep(1)
    finally:
        await cluster.stop()
        cluster.end()
    figures = [Figure(f"drain.{group}", "µs", [one.cpu_us[group] for one in drained]) for group in GROUPS]
    sums = [sum(one.cpu_us.values()) for one in drained]
    rates = [tasks / one.seconds for one in drained]
    return [
        *figures,
        Figure("drain.cpu", "µs", sums),
        Figure("drain.client", "µs", [one.client_us for one in drained]),
        Figure("drain.rate", "tasks/s", rates),
        Figure("drain.plain", "tasks/s", plain),
        Figure("drain.ratio", "×", [rate / other for rate, other in zip(rates, plain, strict=True)]),
    ]
