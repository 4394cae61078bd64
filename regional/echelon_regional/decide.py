"""What the region's leader decides in a turn: the verdicts on what came in. Looks only; pure.

Workers' reports are input, never law: whatever speaks of a run that is not the current one is ignored, so
late, repeated and fenced reports change nothing. One entry a turn holds all verdicts of that turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from echelon.wire.child import CANCELLED, DIED, ERROR, FATAL, HANDED_BACK, OK, TIMEOUT, Outcomes, Ran
from echelon_core.entries import Again, Ended, RegionEntry, Returned, Verdicts
from echelon_core.fold import Step
from echelon_core.names import region_subject
from echelon_core.retry import delay_s, spread
from echelon_core.runs import REDELIVERY_LIMIT, RUNS
from echelon_regional.state import RegionState, Task

CAUSES = {ERROR: "error", TIMEOUT: "timeout", DIED: "died", FATAL: "fatal"}
VERDICTS_PER_ENTRY = 20_000


@dataclass
class Inputs:
    """What came since the last turn."""

    outcomes: list[tuple[int, Outcomes]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)  # (ref, run): delivered, and nobody has it
    undelivered: list[tuple[int, int]] = field(default_factory=list)  # to be cancelled, and in nobody's hands
    stranded: list[int] = field(default_factory=list)  # refs that no worker here can run


class Region:
    """The fold of a region: `echelon_core.fold.Fold`."""

    def __init__(self, state: RegionState) -> None:
        self.state = state
        self.judged = state.outcomes  # read and judged, whether or not an entry had to be written

    def apply(self, seq: int, entry: RegionEntry) -> None:
        self.state.apply(seq, entry)

    def decide(self, inputs: Inputs, now: float) -> Iterator[Step]:
        bench = _Bench(self.state, self.judged, now)
        for seq, message in inputs.outcomes:
            for ran in message.ran:
                bench.report(seq, ran)
            self.judged = bench.outcomes = seq
            if bench.count >= VERDICTS_PER_ENTRY:
                yield bench.step()
                bench = _Bench(self.state, seq, now)
        for ref, run in inputs.lost:
            bench.lost(ref, run)
        for ref, run in inputs.undelivered:
            bench.cancel(ref, run)
        for task in list(self.state.cancelling.values()):
            if not task.bundle:
                bench.cancel(task.ref, task.run)
        for ref in inputs.stranded:
            bench.give_up(ref)
        if bench.count:
            yield bench.step()


class _Bench:
    """Verdicts gathered for one entry. A task is judged once in it: its next run is not open yet."""

    def __init__(self, state: RegionState, outcomes: int, now: float) -> None:
        self.state = state
        self.outcomes = outcomes
        self.now = now
        self.ok: list[tuple[int, list[int]]] = []
        self.ended: list[Ended] = []
        self.again: list[Again] = []
        self.returned: list[Returned] = []
        self.judged: set[int] = set()

    @property
    def count(self) -> int:
        return len(self.judged)

    def step(self) -> Step:
        entry = Verdicts(
            self.state.ledger, self.outcomes, self.now, self.ok, self.ended, self.again, self.returned
        )
        return Step(region_subject(self.state.region), entry)

    def _current(self, ref: int, run: int) -> Task | None:
        """The task, if this run of it is current and open."""
        task = self.state.tasks.get(ref)
        if task is None or task.run != run or ref in self.judged:
            return None
        return task

    def report(self, seq: int, ran: Ran) -> None:
        """What a worker says became of a run."""
        task = self._current(ran.ref, ran.run)
        if task is None:
            return
        if ran.status == OK:
            self.judged.add(ran.ref)
            if self.ok and self.ok[-1][0] == seq:
                self.ok[-1][1].append(ran.ref)
            else:
                self.ok.append((seq, [ran.ref]))
        elif ran.status == HANDED_BACK or (ran.status == CANCELLED and not task.cancel):
            self._run_again(task, "handed_back", seq, task.charged, task.losses, self.now)
        elif ran.status == CANCELLED:
            self._end(task, "cancelled", "cancelled", seq, task.charged)
        else:
            self._failed(task, CAUSES.get(ran.status, "error"), seq)

    def _failed(self, task: Task, cause: str, seq: int) -> None:
        charged = task.charged + 1
        if task.cancel:
            self._end(task, "cancelled", "cancelled", seq, charged)
        elif cause == "fatal" or charged > task.options.retries:
            self._end(task, "dead", cause, seq, charged)
        else:
            wait = delay_s(task.options.backoff, charged, spread(task.ref, task.run))
            self._run_again(task, cause, seq, charged, task.losses, self.now + wait)

    def lost(self, ref: int, run: int) -> None:
        """Delivered, and no living worker has it: not the code's fault, unless it happens again and again."""
        task = self._current(ref, run)
        if task is None:
            return
        losses = task.losses + 1
        if task.cancel:
            self._end(task, "cancelled", "cancelled", 0, task.charged)
        elif losses > REDELIVERY_LIMIT:
            self.judged.add(ref)
            self.ended.append(Ended(ref, run, "poison", "lost", 0, task.charged, losses))
        else:
            self._run_again(task, "lost", 0, task.charged, losses, self.now)

    def cancel(self, ref: int, run: int) -> None:
        """A wanted cancel of what has not started."""
        task = self._current(ref, run)
        if task is not None and task.cancel:
            self._end(task, "cancelled", "cancelled", 0, task.charged)

    def give_up(self, ref: int) -> None:
        """No worker of this region can run it: the master shall place it again."""
        task = self.state.tasks.get(ref)
        if task is not None and not task.bundle and ref not in self.judged:
            self.judged.add(ref)
            self.returned.append(Returned(ref, task.charged, task.losses))

    def _end(self, task: Task, kind: str, cause: str, seq: int, charged: int) -> None:
        self.judged.add(task.ref)
        self.ended.append(Ended(task.ref, task.run, kind, cause, seq, charged, task.losses))

    def _run_again(self, task: Task, cause: str, seq: int, charged: int, losses: int, at: float) -> None:
        self.judged.add(task.ref)
        if task.run % RUNS == RUNS - 1:  # this delegation has no run left
            self.returned.append(Returned(task.ref, charged, losses))
        else:
            self.again.append(Again(task.ref, task.run, cause, at, charged, losses, seq))
