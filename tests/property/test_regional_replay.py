"""The region's fold under any order of events: replay equals live, and no run counts twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from echelon.wire.api import Options
from echelon.wire.child import CANCELLED, DIED, ERROR, FATAL, HANDED_BACK, OK, TIMEOUT, Outcomes, Ran
from echelon_core.entries import (
    Cancel,
    Delegated,
    Item,
    LedgerEntry,
    RegionEntry,
    Verdicts,
    Withdrawn,
    encode,
    ledger_entry,
    region_entry,
)
from echelon_core.runs import delegation_of
from echelon_regional.bundle import Means
from echelon_regional.decide import Inputs, Region
from echelon_regional.release import propose
from echelon_regional.state import Kind, RegionState

LANES = {Kind("quick", "default"): "default=async", Kind("slow", "default"): "default=sync"}
STATUSES = (OK, OK, OK, ERROR, TIMEOUT, DIED, FATAL, CANCELLED, HANDED_BACK)


class World:
    """A region with everything around it that the fold can see, driven by choices."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose  # choose(n) -> 0..n-1
        self.state = RegionState("east")
        self.fold = Region(self.state)
        self.ledger: list[tuple[int, bytes]] = []
        self.log: list[tuple[int, bytes, str]] = []
        self.absorbed = 0
        self.now = 1_000.0
        self.outcomes = 0
        self.work = 0
        self.reports: list[Ran] = []
        self.known: list[tuple[int, int]] = []  # every (ref, run) ever released
        self.ends: dict[tuple[int, int], int] = {}  # (ref, delegation) -> ends
        self.charges: dict[int, int] = {}
        self.delegated: dict[int, int] = {}
        self.refs = 0

    def absorb(self) -> None:
        for seq, data in self.ledger[self.absorbed :]:
            self.state.absorb(seq, ledger_entry(data))
        self.absorbed = len(self.ledger)

    def write(self, entry: LedgerEntry) -> int:
        seq = len(self.ledger) + 1
        self.ledger.append((seq, encode(entry)))
        return seq

    def turn(self, inputs: Inputs) -> None:
        self.absorb()
        for step in self.fold.decide(inputs, self.now):
            assert step.entry is not None
            data = encode(step.entry)
            seq = len(self.log) + 1
            self.check(step.entry, inputs)
            self.fold.apply(seq, region_entry(data))
            self.log.append((seq, data, self.state.digest()))

    def check(self, entry: RegionEntry, inputs: Inputs) -> None:
        assert isinstance(entry, Verdicts)
        said = {(ran.ref, ran.run) for _, message in inputs.outcomes for ran in message.ran} | {*inputs.lost}
        for ref in [r for _, refs in entry.ok for r in refs] + [v.ref for v in (*entry.ended, *entry.again)]:
            task = self.state.tasks[ref]
            assert task.cancel or (ref, task.run) in said, "judged by what was said of another run"
        ended = [ref for _, refs in entry.ok for ref in refs] + [e.ref for e in entry.ended]
        for ref in ended + [r.ref for r in entry.returned]:
            task = self.state.tasks[ref]
            key = (ref, delegation_of(task.run))
            assert key not in self.ends, "a delegation ended twice"
            self.ends[key] = 1
        for again in entry.again:
            assert self.state.tasks[again.ref].run == again.run, "another run than the current one was closed"
            assert again.charged <= self.state.tasks[again.ref].options.retries, "charged more than allowed"

    def step(self) -> None:
        self.now += 0.2
        match self.choose(9):
            case 0 | 1:
                items = []
                for _ in range(1 + self.choose(4)):
                    self.refs += 1
                    kind = "quick" if self.choose(3) else "slow"
                    options = Options(retries=self.choose(3))
                    items.append(Item(self.refs, kind, b"{}", 1 + self.choose(10), options=options))
                seq = self.write(Delegated(self.now, "east", items))
                self.delegated.update({item.ref: seq for item in items})
            case 2:
                if self.delegated:
                    ref = list(self.delegated)[self.choose(len(self.delegated))]
                    self.write(Cancel(self.now, "east", [(ref, self.delegated[ref])]))
            case 3:
                if self.delegated:
                    ref = list(self.delegated)[self.choose(len(self.delegated))]
                    self.write(Withdrawn(self.now, "east", [(ref, self.delegated[ref])]))
                    if self.choose(2):
                        self.delegated[ref] = self.write(
                            Delegated(self.now, "east", [Item(ref, "quick", b"", 5, charged=self.choose(2))])
                        )
            case 4 | 5:
                self.absorb()
                self.state.become_due(self.now, len(self.log))
                rooms = {"default=async": 1 + self.choose(5), "default=sync": 1}
                for proposal in propose(self.state, rooms, LANES, Means(), lambda task: b""):
                    self.work += 1
                    self.state.release(self.work, proposal.lane, proposal.refs, self.now)
                    self.known += [(run.ref, run.run) for run in proposal.bundle.runs]
            case 6 | 7:
                if self.known:
                    ran = []
                    for _ in range(1 + self.choose(4)):
                        ref, run = self.known[self.choose(len(self.known))]
                        ran.append(Ran(ref, run, STATUSES[self.choose(len(STATUSES))], b"", 0.0, 1.0))
                    self.outcomes += 1
                    self.turn(Inputs(outcomes=[(self.outcomes, Outcomes("w", ran))]))
            case _:
                lost = [run for run in self.known if self.choose(3) == 0][:3]
                self.turn(Inputs(lost=lost))

    def replayed(self) -> RegionState:
        """Fold the two logs anew, from their bytes, and compare at every own entry."""
        state = RegionState("east")
        position = 0
        for seq, data, digest in self.log:
            entry = region_entry(data)
            assert isinstance(entry, Verdicts)
            while position < len(self.ledger) and self.ledger[position][0] <= entry.ledger:
                state.absorb(self.ledger[position][0], ledger_entry(self.ledger[position][1]))
                position += 1
            state.apply(seq, entry)
            assert state.digest() == digest
        for at, data in self.ledger[position:]:
            state.absorb(at, ledger_entry(data))
        return state


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_replay_equals_live_and_no_run_counts_twice(data: st.DataObject) -> None:
    world = World(lambda n: data.draw(st.integers(0, n - 1)))
    for _ in range(data.draw(st.integers(1, 40))):
        world.step()
    world.absorb()
    replayed = world.replayed()
    assert replayed.digest() == world.state.digest()
    assert RegionState.load(world.state.dump()).digest() == world.state.digest()
    released = sum(len(message.open) for message in world.state.released.values())
    assert released == sum(world.state.outstanding.values())
    waiting = sum(1 for task in world.state.tasks.values() if not task.bundle and not task.due)
    assert world.state.room.count == waiting
    assert world.state.retrying == sum(1 for task in world.state.tasks.values() if task.due)


def pseudo_random_run() -> str:
    """A long run with choices that look random and are the same everywhere; its last digest."""
    seed = 12345

    def choose(n: int) -> int:
        nonlocal seed
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        return (seed >> 33) % n

    world = World(choose)
    for _ in range(400):
        world.step()
    world.absorb()
    return world.replayed().digest()


def test_two_hash_seeds_give_the_same_bytes() -> None:
    said = set()
    for seed in ("1", "2"):
        code = "from test_regional_replay import pseudo_random_run; print(pseudo_random_run())"
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
        said.add(subprocess.check_output([sys.executable, "-c", code], env=env, text=True))
    assert len(said) == 1
