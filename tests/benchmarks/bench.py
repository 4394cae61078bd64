"""The figures: `just bench` for all, `just bench drain start` for some. Medians, spread, limits, as markdown.

Not a timed test: it exits 0 whatever it finds, for a machine may be busy. What is beyond its limit is marked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)] if str(HERE.parent) not in sys.path else []

import uvloop  # noqa: E402

from benchmarks import drain, latency, memory, start  # noqa: E402
from benchmarks.measure import Figure, table  # noqa: E402

Measure = Callable[[Path, int], Awaitable[list[Figure]]]
BENCHES: dict[str, tuple[str, Measure]] = {
    "drain": (
        "No-op tasks in bulk, 100,000 a run, beside the plain loop",
        lambda folder, runs: drain.measure(folder, runs, 100_000),
    ),
    "latency": (
        "Submit to start at 170/s and 1,000/s, 6 s a run, beside the bare chain",
        lambda folder, runs: latency.measure(folder, runs, 6.0),
    ),
    "memory": (
        "Memory of a queued task, 500,000 queued",
        lambda folder, runs: memory.measure(folder, runs, 500_000),
    ),
    "start": ("`echelon up` to the first task done", start.measure),
}


async def main(names: list[str], runs: int) -> None:
    for name in names:
        title, measure = BENCHES[name]
        with tempfile.TemporaryDirectory(prefix="echelon-bench-") as folder:
            print(table(title, await measure(Path(folder), runs)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which, all if none is named")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    uvloop.run(main(given.names or list(BENCHES), given.runs))
