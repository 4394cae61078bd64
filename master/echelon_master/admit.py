"""Submissions become entries, or refusals that name every bad field. Pure.

All that arrived together is one entry (at most 1,000 tasks and 512 KiB); a caller's group is admitted whole
or not at all. Three questions decide what a group is: has this *request* been answered before (its key), does
this *task* exist already (its id), and do the tasks that it waits for exist. The tasks of the entry in the
making answer the last two as well, so the second of two submissions of one id meets the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from echelon.errors import Conflict, Invalid, Overloaded, TaskIdConflict
from echelon.wire.api import (
    Admission,
    FieldError,
    Group,
    Options,
    Refusal,
    Submission,
    Submit,
    SubmitAnswer,
    options_of,
)
from echelon.wire.check import check_group
from echelon.wire.names import INLINE_BYTES, REQUEST_BYTES, TASKS_PER_REQUEST, is_task_id, ref_of
from echelon_core.entries import Admitted, AdmittedGroup, Dependency
from echelon_core.fold import Effect, Step
from echelon_core.names import ADMITTED
from echelon_master.graph import Directory
from echelon_master.state import MasterState
from echelon_master.tables import Ended, Task, mark_of

ALL_FIELDS: Final = ("task_type", "payload", "priority", "dependencies", "options")
_OPTIONS: Final = (
    ("timeout", "timeout_s"), ("retries", "retries"), ("region", "region"), ("pool", "pool"),
    ("tags", "tags"), ("tenant", "tenant"), ("backoff", "backoff"), ("resolve", "resolve"),
)  # fmt: skip


@dataclass
class SubmitRequest:
    submit: Submit
    size_bytes: int
    reply: Callable[[SubmitAnswer], None]


@dataclass
class Limits:
    """Of what may wait. `drain_rate`: tasks that ended per second of late."""

    tasks: int
    bytes: int
    drain_rate: float = 0.0

    def retry_after_s(self, excess: int) -> float:
        """When so many will have gone, as far as one can tell; between 1 and 60 s."""
        return min(60.0, max(1.0, excess / self.drain_rate)) if self.drain_rate > 0 else 5.0


@dataclass
class _Draft:
    """The entry in the making. Its tasks have their refs already, for its sequence is known: the next."""

    seq: int
    groups: list[AdmittedGroup] = field(default_factory=list)
    tasks: list[Submission] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)  # id -> index in `tasks`
    keys: dict[str, Admission] = field(default_factory=dict)
    size_bytes: int = 0
    payload_bytes: int = 0
    effects: list[Effect] = field(default_factory=list)

    def ref(self, index: int) -> int:
        return self.seq << 10 | index

    def step(self, now: float) -> Step:
        return Step(ADMITTED, Admitted(now, self.groups) if self.groups else None, self.effects)


def admit(
    state: MasterState, ended: Ended, requests: Sequence[SubmitRequest], limits: Limits, now: float
) -> Iterator[Step]:
    """Entries that admit what may be admitted; each request is answered when all of it is durable."""
    draft = _Draft(state.seq + 1)
    for request in requests:
        if draft.tasks and draft.size_bytes + request.size_bytes > REQUEST_BYTES:
            yield draft.step(now)
            draft = _Draft(state.seq + 1)
        draft.size_bytes += request.size_bytes
        answers: list[Admission | Refusal] = []
        for group in request.submit.groups:
            if draft.tasks and len(draft.tasks) + len(group.tasks) > TASKS_PER_REQUEST:
                yield draft.step(now)
                draft = _Draft(state.seq + 1, size_bytes=request.size_bytes)
            answers.append(_Desk(state, ended, draft, limits).judge(group, request.submit.inbox))
        draft.effects.append(_Reply(request.reply, answers))
    if draft.effects:
        yield draft.step(now)


@dataclass
class _Reply:
    reply: Callable[[SubmitAnswer], None]
    answers: list[Admission | Refusal]

    def __call__(self, seq: int) -> None:
        self.reply(SubmitAnswer(seq, self.answers))


@dataclass
class _Desk:
    """One group before the state and the entry in the making."""

    state: MasterState
    ended: Ended
    draft: _Draft
    limits: Limits

    def judge(self, group: Group, inbox: str) -> Admission | Refusal:
        state, draft = self.state, self.draft
        if group.key:
            before = draft.keys.get(group.key)
            if before is None and (kept := state.keys.get(group.key)) is not None:
                before = Admission(kept.first, kept.count, kept.known or {})
            if before is not None:
                return before if before.count == len(group.tasks) else _other_request(group)
        tasks = group.tasks
        plain = is_plain(state, tasks)
        if not plain and (errors := check_group(tasks)):
            return Invalid(errors).refusal()
        entry = AdmittedGroup(group.key, inbox, tasks)
        if any(task.id or task.dependencies for task in tasks):
            refused = self._resolve(tasks, entry)
            if refused is not None:
                return refused
        return self._full(entry.tasks) or self._enter(entry, len(tasks))

    def _full(self, tasks: Sequence[Submission]) -> Refusal | None:
        state, draft, limits = self.state, self.draft, self.limits
        backlog = state.live + len(draft.tasks)
        waiting = state.waiting_bytes + draft.payload_bytes
        size = sum([len(task.payload) + task.payload_bytes for task in tasks])
        if backlog + len(tasks) > limits.tasks:
            wait_s = limits.retry_after_s(backlog + len(tasks) - limits.tasks)
        elif backlog and waiting + size > limits.bytes:
            share = (waiting + size - limits.bytes) / max(1, waiting)
            wait_s = limits.retry_after_s(int(share * backlog))
        else:
            return None
        return Overloaded(backlog=backlog, limit=limits.tasks, retry_after_s=wait_s).refusal()

    def _enter(self, entry: AdmittedGroup, count: int) -> Admission:
        """Into the draft with it."""
        draft = self.draft
        first = len(draft.tasks)
        if not entry.tasks:
            return Admission(0, count, entry.known)
        answer = Admission(draft.ref(first), count, entry.known)
        for index, task in enumerate(entry.tasks, first):
            if task.id:
                draft.ids[task.id] = index
            draft.payload_bytes += len(task.payload) + task.payload_bytes
        draft.tasks.extend(entry.tasks)
        draft.groups.append(entry)
        if entry.key:
            draft.keys[entry.key] = answer
        return answer

    # ------------------------------------------------------------------ ids and dependencies
    def _resolve(self, tasks: Sequence[Submission], entry: AdmittedGroup) -> Refusal | None:
        """Fill in which tasks exist and what dependencies are, or refuse."""
        asked = {task.id for task in tasks if task.id}
        own = dict.fromkeys(asked)
        names = {name: None for task in tasks for name in task.dependencies if name not in own}
        directory = Directory(self.state, self.ended, [*sorted(own), *names])
        known: dict[int, int] = {}
        for index, task in enumerate(tasks):
            found = self._existing(task, directory) if task.id else None
            if isinstance(found, Refusal):
                return found
            if found is not None:
                known[index] = found
        new = [task for index, task in enumerate(tasks) if index not in known]
        mine = {task.id: len(self.draft.tasks) + index for index, task in enumerate(new) if task.id}
        errors: list[FieldError] = []
        places = [index for index in range(len(tasks)) if index not in known]
        for index, task in enumerate(new):
            if task.dependencies:
                entry.dependencies[index] = self._dependencies(task, mine, directory, places[index], errors)
        entry.tasks, entry.known = new, known
        return Invalid(errors).refusal() if errors else None

    def _existing(self, task: Submission, directory: Directory) -> int | Refusal | None:
        """The ref of the task of this id, if there is one and it is the same; a refusal if it is another."""
        draft, state = self.draft, self.state
        at = draft.ids.get(task.id)
        if at is not None:
            first = draft.tasks[at]
            if mark_of(first) == mark_of(task):
                return draft.ref(at)
            return _conflict(task, _differences(task, first))
        ref = directory.live(task.id)
        if ref is not None:
            live = state.find(ref)
            assert live is not None
            return ref if live.mark == mark_of(task) else _conflict(task, _differs_from_live(task, live))
        over = directory.ended(task.id)
        if over is None:
            return None
        return over.ref if over.mark == mark_of(task) else _conflict(task, ALL_FIELDS)

    def _dependencies(
        self,
        task: Submission,
        mine: dict[str, int],
        directory: Directory,
        place: int,
        errors: list[FieldError],
    ) -> list[Dependency]:
        found: list[Dependency] = []
        for number, name in enumerate(task.dependencies):
            at = mine.get(name, self.draft.ids.get(name))
            dependency = directory.dependency(name) if at is None else Dependency(self.draft.ref(at))
            if dependency is None:
                field_name = f"tasks[{place}].dependencies[{number}]"
                message = f"There is no task {name!r}: submit it first, or in the same request."
                errors.append(FieldError(field_name, "unknown_dependency", message))
            else:
                found.append(dependency)
        return found


def is_plain(state: MasterState, tasks: Sequence[Submission]) -> bool:
    """Is this a group that `check_group` has nothing to say about, as one can tell at a glance?

    Most are: nothing but type, options, payload and id, and a task of that type and options lives already,
    so those two were checked when it came. (A check costs 3 µs a task, a glance a tenth of that.)
    """
    if not 0 < len(tasks) <= TASKS_PER_REQUEST:
        return False
    kinds = state.kinds
    named = 0
    for task in tasks:
        if (
            (task.type, task.options) not in kinds
            or not 1 <= task.priority <= 10
            or task.dependencies
            or len(task.payload) > INLINE_BYTES
            or task.payload_bytes > INLINE_BYTES
        ):
            return False
        if task.id:
            if not is_task_id(task.id) or ref_of(task.id) is not None:
                return False
            named += 1
    return not named or len({task.id for task in tasks if task.id}) == named


def _other_request(group: Group) -> Refusal:
    return Conflict(f"The key {group.key!r} was used for another request. Use a new one.").refusal()


def _conflict(task: Submission, fields: Sequence[str]) -> Refusal:
    message = "This is not what was submitted first under this id."
    return TaskIdConflict(task.id, [FieldError(name, "differs", message) for name in fields]).refusal()


def _differences(task: Submission, first: Submission) -> list[str]:
    pairs = {
        "task_type": (task.type, first.type),
        "payload": ((task.payload, task.payload_bytes), (first.payload, first.payload_bytes)),
        "priority": (task.priority, first.priority),
        "dependencies": (sorted(set(task.dependencies)), sorted(set(first.dependencies))),
    }
    found = [name for name, (mine, other) in pairs.items() if mine != other]
    return found + _option_differences(options_of(task), options_of(first))


def _differs_from_live(task: Submission, live: Task) -> list[str]:
    """What differs as far as the record shows: the payload is not in it once a region has that."""
    found = _option_differences(options_of(task), live.kind.options)
    if task.type != live.kind.type:
        found.append("task_type")
    if task.priority != live.priority:
        found.append("priority")
    if live.payload and task.payload != live.payload:
        found.append("payload")
    if set(task.dependencies) != set(live.kin.names if live.kin is not None else ()):
        found.append("dependencies")
    return found or ["payload"]


def _option_differences(mine: Options, other: Options) -> list[str]:
    return [name for name, field in _OPTIONS if getattr(mine, field) != getattr(other, field)]
