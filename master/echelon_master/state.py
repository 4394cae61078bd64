"""What the master knows: a fold of its own ledger alone. Only `apply` changes it.

Live tasks, who waits for whom, what is delegated where, requests of the last ten minutes, and how far each
region's log has been dealt with. Nothing of an ended task stays here: it is handed to `on_ended` (the ended
index keeps it on disk). What payloads are in memory is no part of the state, merely a cache: it may differ
between two replicas, and `digest` does not see it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from echelon.wire.api import End, Submission, Where
from echelon_core.entries import (
    Admitted,
    Cancel,
    Delegated,
    Dependency,
    Epoch,
    LedgerEntry,
    Redriven,
    Settled,
    Withdrawn,
)
from echelon_core.queue import WaitingRoom
from echelon_core.runs import REDELIVERY_LIMIT
from echelon_master.tables import (
    BACK,
    DOOMED,
    OUT,
    READY,
    WAITING,
    Answered,
    Batch,
    EndedTask,
    Kin,
    Kind,
    Kinds,
    Place,
    Region,
    Task,
    dependency_end,
    kin_of,
    mark_of,
)

PAYLOAD_IN_MEMORY: Final = 4096
KEYS_KEPT_S: Final = 600.0
KEYS_KEPT: Final = 500_000
"""Requests of one task each, thousands a second, would otherwise fill memory within those ten minutes."""

OnEnded = Callable[[int, Settled, list[EndedTask]], None]


class Impossible(Exception):
    """The ledger says what cannot be: it speaks of a task that does not live."""


class MasterState:
    """See the module. Reading is free to all; only `apply` writes."""

    def __init__(self, cache_bytes: int, on_ended: OnEnded = lambda seq, entry, named: None) -> None:
        self.seq = 0
        self.epoch = 0
        self.batches: dict[int, Batch] = {}
        self.ids: dict[str, int] = {}
        self.kinds = Kinds()
        self.room: WaitingRoom[Place] = WaitingRoom(self._waits)
        self.regions: dict[str, Region] = {}
        self.keys: dict[str, Answered] = {}
        self.key_ages: deque[tuple[float, list[str]]] = deque()
        self.doomed: dict[int, None] = {}
        self.back: dict[int, None] = {}
        self.live = 0
        self.ended = 0
        self.waiting_bytes = 0
        self.cached_bytes = 0
        self._cache_bytes = cache_bytes
        self._on_ended = on_ended

    # ------------------------------------------------------------------ looking
    def find(self, ref: int) -> Task | None:
        """The live task, or None."""
        batch = self.batches.get(ref >> 10)
        if batch is None:
            return None
        try:
            return batch.tasks[ref & 1023]
        except LookupError:
            return None

    def region(self, name: str) -> Region:
        """Of a region that nothing was ever delegated to: a fresh one, that is not kept."""
        return self.regions.get(name) or Region()

    def inbox_of(self, ref: int) -> str:
        return self.batches[ref >> 10].inbox_of(ref & 1023)

    def tasks(self) -> Iterator[tuple[int, Task]]:
        """Every live task, in order of ref. The state must not change meanwhile."""
        for seq in sorted(self.batches):
            for index, task in self.batches[seq].rows():
                yield seq << 10 | index, task

    def _waits(self, level: int, ref: int, place: Place) -> bool:
        batch = self.batches.get(ref >> 10)
        if batch is None:
            return False
        try:
            task = batch.tasks[ref & 1023]
        except LookupError:
            return False
        return task is not None and task.stage == READY and task.priority == level

    # ------------------------------------------------------------------ apply
    def apply(self, seq: int, entry: LedgerEntry | None) -> None:
        """Obey an entry. None: a further marker of a wall.

        Raises:
            Impossible: it speaks of a task that does not live.
        """
        self.seq = seq
        if isinstance(entry, Settled):
            self._settled(seq, entry)
        elif isinstance(entry, Delegated):
            self._delegated(seq, entry)
        elif isinstance(entry, Admitted):
            self._admitted(seq, entry)
        elif isinstance(entry, Cancel):
            for ref, _ in entry.tasks:
                self._live(ref).wanted = True
        elif isinstance(entry, Withdrawn):
            self._withdrawn(entry)
        elif isinstance(entry, Redriven):
            self._redriven(seq, entry)
        elif isinstance(entry, Epoch):
            self.epoch = entry.epoch

    def _live(self, ref: int) -> Task:
        task = self.find(ref)
        if task is None:
            raise Impossible(f"ledger {self.seq} speaks of {ref}, which does not live")
        return task

    def _kept(self, name: str) -> Region:
        region = self.regions.get(name)
        if region is None:
            region = self.regions[name] = Region()
        return region

    # ------------------------------------------------------------------ admitted, redriven
    def _admitted(self, seq: int, entry: Admitted) -> None:
        tasks: list[Task | None] = []
        inboxes: list[tuple[int, str]] = []
        keys: list[str] = []
        batch = self.batches[seq] = Batch(tasks, 0)
        for group in entry.groups:
            first = len(tasks)
            if not inboxes or inboxes[-1][1] != group.inbox:
                inboxes.append((first, group.inbox))
            for submission in group.tasks:
                tasks.append(self._enter(submission, seq << 10 | len(tasks)))
            if group.key:
                keys.append(group.key)
                count = len(group.tasks) + len(group.known)
                self.keys[group.key] = Answered(seq << 10 | first, count, group.known or None)
        batch.live = len(tasks)
        batch.inbox = inboxes[0][1] if len(inboxes) == 1 else inboxes
        self.live += len(tasks)
        first = 0
        for group in entry.groups:
            for index, dependencies in group.dependencies.items():
                self._link(seq << 10 | first + index, group.tasks[index].dependencies, dependencies)
            first += len(group.tasks)
        self._push_ready(seq, tasks)
        self._remember(entry.at, keys)

    def _enter(self, submission: Submission, ref: int) -> Task:
        payload: bytes | None = submission.payload
        size = len(submission.payload)
        kind = self.kinds.of(submission.type, submission.options)
        kind.tasks += 1
        task = Task(kind, payload, submission.priority, READY)
        if submission.id:
            task.id = submission.id
            task.mark = mark_of(submission)
            self.ids[submission.id] = ref
        if submission.blob or submission.traceparent:
            task.kin = Kin(blob=submission.blob, traceparent=submission.traceparent)
            task.kin.payload_bytes = submission.payload_bytes if submission.blob else 0
            size += task.kin.payload_bytes
        if payload:
            if len(payload) > PAYLOAD_IN_MEMORY or self.cached_bytes + len(payload) > self._cache_bytes:
                task.payload = None
                kin = kin_of(task)
                kin.payload_bytes += len(payload)
            else:
                self.cached_bytes += len(payload)
        self.waiting_bytes += size
        return task

    def _push_ready(self, seq: int, tasks: list[Task | None]) -> None:
        """To the waiting room, those of one kind and level together."""
        lines: dict[tuple[Place, int], list[int]] = {}
        kind: Kind | None = None
        level = 0
        line: list[int] = []
        for ref, task in enumerate(tasks, seq << 10):
            if task is None or task.stage != READY:
                continue
            if task.kind is not kind or task.priority != level:
                kind, level = task.kind, task.priority
                line = lines.setdefault((kind.place, level), [])
            line.append(ref)
        for (place, level), refs in lines.items():
            self.room.extend(level, place, refs)

    def _link(self, ref: int, names: tuple[str, ...], dependencies: list[Dependency]) -> None:
        """A task waits for those of its dependencies that live; one that ended badly dooms it."""
        task = self._live(ref)
        kin = kin_of(task)
        kin.names, kin.dependencies = names, dependencies
        for index, dependency in enumerate(dependencies):
            if not dependency.kind:
                other = kin_of(self._live(dependency.ref))
                if other.dependants is None:
                    other.dependants = []
                other.dependants.append(ref << 14 | index)
                kin.left += 1
            elif dependency.kind != "ok" and task.stage != DOOMED:
                self._doom(ref, task, dependency_end(ref, names[index], dependency.kind))
        if kin.left and task.stage == READY:
            task.stage = WAITING

    def _redriven(self, seq: int, entry: Redriven) -> None:
        ref = entry.ref
        task = self._enter(entry.task, ref)
        kin = kin_of(task)
        kin.source = seq
        kin.names, kin.dependencies = entry.task.dependencies, entry.dependencies
        batch = self.batches.get(ref >> 10)
        if batch is None:
            batch = self.batches[ref >> 10] = Batch({}, 0)
        batch.tasks[ref & 1023] = task
        batch.live += 1
        self.live += 1
        self.room.push(task.priority, task.kind.place, ref)

    def _remember(self, at: float, keys: list[str]) -> None:
        """Which requests were answered how. Old ones go by the time in the entries, never by a clock."""
        ages = self.key_ages
        if keys:
            ages.append((at, keys))
        while ages and (at - ages[0][0] > KEYS_KEPT_S or len(self.keys) > KEYS_KEPT):
            for key in ages.popleft()[1]:
                self.keys.pop(key, None)

    # ------------------------------------------------------------------ delegated, withdrawn
    def _delegated(self, seq: int, entry: Delegated) -> None:
        gone: dict[tuple[Place, int], int] = {}
        name = entry.region
        for item in entry.items:
            task = self._live(item.ref)
            line = (task.kind.place, task.priority)
            gone[line] = gone.get(line, 0) + 1
            task.stage, task.region, task.delegation = OUT, name, seq
            if task.payload or task.kin is not None:
                self._let_go(task)
        for (place, level), count in gone.items():
            self.room.left(level, place, count)
        region = self._kept(name)
        region.out += len(entry.items)
        region.latest = seq

    def _let_go(self, task: Task) -> None:
        """Its payload waits here no more."""
        if task.payload:
            size = len(task.payload)
            self.cached_bytes -= size
            self.waiting_bytes -= size
            task.payload = None
        if task.kin is not None and task.kin.payload_bytes:
            self.waiting_bytes -= task.kin.payload_bytes
            task.kin.payload_bytes = 0

    def _withdrawn(self, entry: Withdrawn) -> None:
        for ref, delegation in entry.tasks:
            task = self._live(ref)
            if task.delegation != delegation or task.stage not in (OUT, BACK):
                raise Impossible(f"ledger {self.seq} withdraws {ref} of {delegation}, which is not out")
            self._came_back(ref, task)
            task.stage = READY
            if task.wanted:
                self._doom(ref, task, End(ref, "cancelled", "cancelled"))
            elif task.charged > task.kind.options.retries or task.losses > REDELIVERY_LIMIT:
                self._doom(ref, task, End(ref, "failed", "lost"))
            else:
                self.room.push(task.priority, task.kind.place, ref)

    def _came_back(self, ref: int, task: Task) -> None:
        self.regions[task.region].out -= 1
        task.region, task.delegation = "", 0
        self.back.pop(ref, None)

    def _doom(self, ref: int, task: Task, end: End) -> None:
        """How it ends is decided; the entry that says so comes next."""
        task.stage = DOOMED
        kin_of(task).doom = end
        self.doomed[ref] = None

    # ------------------------------------------------------------------ settled
    def _settled(self, seq: int, entry: Settled) -> None:
        named: list[EndedTask] = []
        for moved in entry.moved:
            task = self._live(moved.ref)
            task.charged, task.losses = moved.charged, moved.losses
            if moved.returned:
                task.stage = BACK
                self.back[moved.ref] = None
        for where in entry.ok:
            self._ended_well(where, named)
        for end in entry.ended:
            task = self._over(end.ref)
            if task.id:
                named.append(EndedTask(end.ref, end.kind, end.region, end.sequence, task.id, task.mark))
            if task.kin is not None and task.kin.dependants:
                self._fail_dependants(end, task.id, task.kin.dependants)
        if entry.region:
            self._kept(entry.region).position = entry.position
        self._on_ended(seq, entry, named)

    def _ended_well(self, where: Where, named: list[EndedTask]) -> None:
        for ref in where.refs:
            task = self._over(ref)
            if task.id:
                named.append(EndedTask(ref, "ok", where.region, where.sequence, task.id, task.mark))
            if task.kin is not None and task.kin.dependants:
                self._free_dependants(ref, where, task.kin.dependants)

    def _over(self, ref: int) -> Task:
        """The task has ended: nothing of it stays."""
        task = self._live(ref)
        batch = self.batches[ref >> 10]
        batch.end(ref & 1023)
        if not batch.live:
            del self.batches[ref >> 10]
        self.live -= 1
        self.ended += 1
        kind = task.kind
        kind.tasks -= 1
        if not kind.tasks:
            self.kinds.forget(kind)
        if task.id:
            del self.ids[task.id]
        stage = task.stage
        if stage == OUT:
            self.regions[task.region].out -= 1
            return task
        if stage == BACK:
            self._came_back(ref, task)
            return task
        self._let_go(task)
        if stage == READY:
            self.room.left(task.priority, kind.place)
        elif stage == DOOMED:
            del self.doomed[ref]
        return task

    def _waiting_dependants(self, dependants: list[int]) -> Iterator[tuple[int, Task, Kin, int]]:
        """(ref, task, its kin, place of the dependency) of those that still wait."""
        for packed in dependants:
            task = self.find(packed >> 14)
            if task is not None and task.stage == WAITING and task.kin is not None:
                yield packed >> 14, task, task.kin, packed & 16383

    def _free_dependants(self, ref: int, where: Where, dependants: list[int]) -> None:
        for waiting, task, kin, index in self._waiting_dependants(dependants):
            kin.dependencies[index] = Dependency(ref, "ok", where.region, where.sequence)
            kin.left -= 1
            if not kin.left:
                task.stage = READY
                self.room.push(task.priority, task.kind.place, waiting)

    def _fail_dependants(self, end: End, task_id: str, dependants: list[int]) -> None:
        for waiting, task, kin, index in self._waiting_dependants(dependants):
            kin.dependencies[index] = Dependency(end.ref, end.kind, end.region, end.sequence)
            self._doom(waiting, task, dependency_end(waiting, kin.names[index], end.kind))
