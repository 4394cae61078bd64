"""CPU of the master's fold and codec, per task, at one process: admit, place, settle. Prints medians.

python tests/benchmarks/master_fold.py [waiting tasks, 100000] [runs, 5]
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from echelon.wire.api import Group, Notice, Submission, Submit, SubmitAnswer, submit_request
from echelon.wire.codec import pack
from echelon_core.entries import Delegated, RegionEntry, Room, Verdicts, encode, region_entry
from echelon_master.admit import SubmitRequest
from echelon_master.decide import Inputs, Master, Policy
from echelon_master.state import MasterState
from echelon_master.tables import EndedTask

TASKS = 1000
ROUNDS = 50


class NothingEnded:
    def named(self, ids: Sequence[str]) -> dict[str, EndedTask]:
        return {}

    def by_ref(self, ref: int) -> EndedTask | None:
        return None


def answer(said: SubmitAnswer) -> None:
    pack(said)


def tell(inbox: str, notice: Notice) -> None:
    pack(notice)


class Bench:
    def __init__(self) -> None:
        self.state = MasterState(256 * 1024**2)
        self.sent: list[Notice] = []
        self.fold = Master(
            self.state,
            NothingEnded(),
            lambda inbox, notice: pack(notice) and None,
            Policy(10**9, 10**12),
            0.0,
        )
        self.seq = 0
        self.delegated: list[Delegated] = []
        self.now = 1.0

    def turn(self, inputs: Inputs) -> None:
        for step in self.fold.decide(inputs, self.now):
            if step.entry is not None:
                self.seq += 1
                encode(step.entry)
                self.fold.apply(self.seq, step.entry)
                if isinstance(step.entry, Delegated):
                    self.delegated.append(step.entry)
            for effect in step.effects:
                effect(self.seq)

    def submit(self, raws: Sequence[bytes]) -> None:
        requests = [
            SubmitRequest(submit_request(raw), len(raw), lambda answer: pack(answer) and None) for raw in raws
        ]
        self.turn(Inputs(submits=requests))

    def place(self) -> None:
        rooms = {
            name: Room(
                name, 1, self.state.region(name).out + TASKS // 2, {"noop": "async", "sum": "sync"}, 1, 1
            )
            for name in ("east", "west")
        }
        self.turn(Inputs(rooms=rooms))
        self.now += 10.0
        self.turn(Inputs())  # those reports are stale now

    def settle(self, at: int) -> None:
        logs: dict[str, list[tuple[int, RegionEntry]]] = {}
        for entry in self.delegated:
            refs = [item.ref for item in entry.items]
            outcomes = [(at, refs[i : i + 64]) for i in range(0, len(refs), 64)]
            raw = encode(Verdicts(self.seq, at, self.now, outcomes))
            logs.setdefault(entry.region, []).append((at, region_entry(raw)))
        self.delegated.clear()
        self.turn(Inputs(logs=logs))


def requests(key: str, named: bool) -> list[bytes]:
    tasks = [
        Submission("noop" if i % 2 else "sum", b'{"number": 12345}', f"{key}-{i}" if named else "")
        for i in range(TASKS)
    ]
    return [pack(Submit("inbox", [Group(key, tasks)]))]


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(waiting: int, named: bool) -> tuple[list[float], float]:
    gc.collect()
    gc.freeze()
    gc.disable()
    bench = Bench()
    before = rss()
    for n in range(waiting // TASKS):
        bench.submit(requests(f"w{n}", named))
    memory = (rss() - before) / max(1, waiting)
    spent = [0.0, 0.0, 0.0]
    for n in range(ROUNDS):
        raws = requests(f"r{n}", named)
        a = time.process_time()
        bench.submit(raws)
        b = time.process_time()
        bench.place()
        c = time.process_time()
        bench.settle(n + 1)
        d = time.process_time()
        spent = [spent[0] + b - a, spent[1] + c - b, spent[2] + d - c]
    assert bench.state.live == waiting // TASKS * TASKS, bench.state.live
    gc.enable()
    return [s / ROUNDS / TASKS * 1e6 for s in spent], memory


def main() -> None:
    waiting = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    for named in (True, False):
        found = [run(waiting, named) for _ in range(runs)]
        admit, place, settle = (statistics.median(r[0][i] for r in found) for i in range(3))
        totals = [sum(r[0]) for r in found]
        print(
            f"{waiting:,} waiting, ids {'given' if named else 'made'}: admit {admit:.2f} place {place:.2f} "
            f"settle {settle:.2f} = {statistics.median(totals):.2f} µs a task "
            f"({min(totals):.2f}–{max(totals):.2f}); {found[0][1]:.0f} bytes a waiting task with payload"
        )


if __name__ == "__main__":
    main()
