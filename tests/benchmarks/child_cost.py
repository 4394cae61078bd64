"""What a child costs: microseconds of its CPU per task, in bundles as a region makes them.

python tests/benchmarks/child_cost.py [tasks]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from echelon.wire.child import Kind, Run
from support.child_process import ChildProcess, child

APP = """
import asyncio
from echelon import task, Context

@task
async def noop() -> None:
    pass

@task(name="sync.noop")
def sync_noop() -> None:
    pass

@task
async def add(a: int, b: float = 0.0) -> float:
    return a + b

@task
async def turn() -> None:
    await asyncio.sleep(0)

@task
async def wait() -> None:
    await asyncio.sleep(0.001)

@task
async def timed(ctx: Context) -> str:
    async with asyncio.timeout(5):
        return ctx.task_id
"""


def cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def cost_us(running: ChildProcess, task_type: str, payload: bytes, tasks: int, size: int) -> float:
    process = psutil.Process(running.process.pid)
    runs = [
        [Run((b << 10) + k, (b << 10) + 1, task_type, payload, 300.0, 1) for k in range(size)]
        for b in range(tasks // size)
    ]
    before = cpu_s(process)
    under_way = 0
    for bundle in runs:
        running.give(bundle)
        under_way += 1
        if under_way >= 16:
            kind = 0
            while kind != Kind.DONE:
                kind = running.read()[0]
            under_way -= 1
    running.outcomes(under_way)
    return (cpu_s(process) - before) / (len(runs) * size) * 1e6


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "bench_app.py"
        app.write_text(APP)
        cases = [
            ("async", "noop", b"", 64, 1), ("async", "noop", b"", 1, 5),
            ("async", "add", b'{"a":1,"b":2}', 64, 1),
            ("async", "timed", b"", 64, 2), ("async", "turn", b"", 64, 4), ("async", "wait", b"", 64, 4),
            ("sync", "sync.noop", b"", 64, 1), ("sync", "sync.noop", b"", 1, 5),
        ]  # fmt: skip
        for lane, name, payload, size, less in cases:
            with child(app, lane) as running:
                running.hello()
                cost_us(running, name, payload, 2_000, size)
                figures = [cost_us(running, name, payload, tasks // less, size) for _ in range(5)]
            spread = max(figures) - min(figures)
            median = statistics.median(figures)
            print(f"{lane:5} {name:10} bundles of {size:2}: {median:6.2f} us/task (spread {spread:.2f})")


if __name__ == "__main__":
    main()
