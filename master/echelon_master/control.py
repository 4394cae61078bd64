"""What people want of tasks that exist: cancel, retry. And what the master itself takes back. Pure.

A cancel is a level: what no region has ends at once, for the rest the wish stands in the ledger and stays
with the task until it has ended, whatever happens to region and master meanwhile. A retry begins a new series
of runs of a task that ended otherwise than well, under its old id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from echelon.errors import AlreadyEnded, Conflict, NotFound, StillLive, Unavailable
from echelon.wire.api import Act, ActAnswer, Done, End, Refusal, Submission
from echelon_core.entries import Cancel, Dependency, Redriven, Withdrawn
from echelon_core.fold import Effect, Step
from echelon_core.life import Stage
from echelon_core.names import ADMITTED, control
from echelon_master.graph import ENDS_PER_ENTRY, Directory, by_master
from echelon_master.notices import Notify
from echelon_master.state import MasterState
from echelon_master.tables import BACK, DOOMED, OUT, READY, WAITING, Ended, EndedTask

TASKS_PER_CONTROL: Final = 1000

STAGES: Final = {
    WAITING: Stage.WAITING,
    READY: Stage.READY,
    OUT: Stage.DELEGATED,
    BACK: Stage.DELEGATED,
    DOOMED: Stage.WAITING,
}
OVER: Final = {
    "ok": Stage.COMPLETED,
    "failed": Stage.FAILED,
    "cancelled": Stage.CANCELLED,
    "expired": Stage.EXPIRED,
}


@dataclass
class ActRequest:
    """`found`: for a retry, what was submitted, by ref, as read back from the ledger."""

    act: Act
    reply: Callable[[ActAnswer], None]
    found: Mapping[int, Submission] = field(default_factory=dict)

    def answering(self, items: list[Done | Refusal]) -> Effect:
        return lambda seq: self.reply(ActAnswer(seq, items))


# ---------------------------------------------------------------------- cancel
def cancel(
    state: MasterState, ended: Ended, notify: Notify, request: ActRequest, now: float
) -> Iterator[Step]:
    """End what nobody has begun; for the rest, write down that its end is wanted."""
    directory = Directory(state, ended, request.act.ids)
    items: list[Done | Refusal] = []
    ends: dict[int, End] = {}
    wishes: dict[str, dict[int, int]] = {}  # region -> ref -> delegation
    for task_id in request.act.ids:
        ref = directory.live(task_id)
        task = None if ref is None else state.find(ref)
        if ref is None or task is None:
            items.append(_not_live(task_id, directory.ended(task_id)))
            continue
        if task.stage in (OUT, BACK):
            items.append(Done(ref, Stage.DELEGATED))
            if not task.wanted:
                wishes.setdefault(task.region, {})[ref] = task.delegation
        else:
            items.append(Done(ref, Stage.CANCELLED))
            ends[ref] = End(ref, "cancelled", "cancelled", request.act.reason)
    steps: list[Step] = [
        Step(
            control(region),
            Cancel(now, region, tasks[at : at + TASKS_PER_CONTROL], request.act.by, request.act.reason),
        )
        for region, wanted in wishes.items()
        if (tasks := list(wanted.items()))
        for at in range(0, len(tasks), TASKS_PER_CONTROL)
    ]
    yield from steps
    over = list(ends.values())
    for at in range(0, len(over), ENDS_PER_ENTRY):
        yield by_master(state, notify, over[at : at + ENDS_PER_ENTRY], now)
    yield Step("", None, [request.answering(items)])


def _not_live(task_id: str, over: EndedTask | None) -> Refusal:
    if over is None:
        return NotFound("task", task_id).refusal()
    return AlreadyEnded(task_id, OVER[over.kind]).refusal()


# ---------------------------------------------------------------------- retry
def retry(state: MasterState, ended: Ended, request: ActRequest, now: float) -> Iterator[Step]:
    """A new series of runs for each of these; dependencies are not awaited again."""
    items: list[Done | Refusal] = []
    for task_id in request.act.ids:
        directory = Directory(state, ended, [task_id])
        ref = directory.live(task_id)
        if ref is not None:
            task = state.find(ref)
            assert task is not None
            items.append(StillLive(task_id, STAGES[task.stage]).refusal())
            continue
        over = directory.ended(task_id)
        if over is None or over.kind == "ok":
            items.append(_not_to_retry(task_id, over))
            continue
        submission = request.found.get(over.ref)
        if submission is None:
            items.append(Unavailable(f"Task {task_id!r} could not be read back just now.").refusal())
            continue
        dependencies = _as_they_are(state, ended, submission.dependencies)
        yield Step(ADMITTED, Redriven(now, over.ref, submission, dependencies, request.act.by))
        items.append(Done(over.ref, Stage.READY))
    yield Step("", None, [request.answering(items)])


def _not_to_retry(task_id: str, over: EndedTask | None) -> Refusal:
    if over is None:
        return NotFound("task", task_id).refusal()
    return Conflict(f"Task {task_id!r} has completed; only what failed can be retried.").refusal()


def _as_they_are(state: MasterState, ended: Ended, names: Sequence[str]) -> list[Dependency]:
    directory = Directory(state, ended, names)
    return [directory.dependency(name) or Dependency(0) for name in names]


# ---------------------------------------------------------------------- taking back
def withdraw_returned(state: MasterState, now: float) -> Iterator[Step]:
    """Delegations that their region has ended: over for good, so that the task may be placed again."""
    if not state.back:
        return
    by_region: dict[str, list[tuple[int, int]]] = {}
    for ref in sorted(state.back):
        task = state.find(ref)
        assert task is not None
        by_region.setdefault(task.region, []).append((ref, task.delegation))
    for region, tasks in by_region.items():
        for at in range(0, len(tasks), TASKS_PER_CONTROL):
            yield Step(control(region), Withdrawn(now, region, tasks[at : at + TASKS_PER_CONTROL]))


def withdraw_lost(state: MasterState, region: str, now: float) -> Iterator[Step]:
    """Everything that a lost region has. Should it come back, it reads this first and drops it all."""
    theirs = [
        (ref, task.delegation)
        for ref, task in state.tasks()
        if task.stage in (OUT, BACK) and task.region == region
    ]
    rest = iter(theirs)
    while tasks := list(islice(rest, TASKS_PER_CONTROL)):
        yield Step(control(region), Withdrawn(now, region, tasks))
