"""What a region's leader knows: a fold of two logs, its part of the ledger and its own.

    absorb(seq, ledger entry)    what the master decided: delegated, cancel, withdrawn
    apply(seq, region entry)     what this region's leader decided: verdicts

Only these two change what counts, and a region entry names the ledger position that it was decided at, so
replay interleaves the two exactly as they came. What is *released* is no part of it: the work queue is the
record of that, and `release` and `close` merely keep count of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from echelon.wire.api import DEFAULTS, Options
from echelon_core.entries import (
    Again,
    Cancel,
    Delegated,
    Item,
    LedgerEntry,
    More,
    RegionEntry,
    RegionEpoch,
    Withdrawn,
)
from echelon_core.fold import digest_of
from echelon_core.queue import WaitingRoom
from echelon_core.runs import delegation_of, first_run, next_run


class Kind(NamedTuple):
    """What decides which workers may run a task; tasks of one kind wait in one line."""

    type: str
    pool: str


class Task(msgspec.Struct, gc=False):
    """A delegated task that has not ended. Its current run is open."""

    ref: int
    type: str
    payload: bytes | None
    priority: int
    id: str
    options: Options
    source: int
    more: More | None
    run: int
    charged: int
    losses: int
    opener: int = 0  # sequence of the own entry that opened this run; 0: the delegation did
    due: float = 0.0
    cancel: bool = False
    bundle: int = 0  # work sequence of the message that this run was released in; 0: not released

    @property
    def kind(self) -> Kind:
        return Kind(self.type, self.options.pool)


class Released(msgspec.Struct, gc=False):
    """A message in the work queue, as long as one of its runs is open."""

    lane: str
    open: dict[int, int]  # ref -> run
    at: float = 0.0  # when it was released; 0: by an earlier leader
    orphan: bool = False  # a run was closed by other than a worker's report: nobody will ack


class RegionState:
    """See the module. `ledger` and `outcomes` are the positions that the log has named so far."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.epoch = 0
        self.ledger = 0
        self.outcomes = 0
        self.sequence = 0
        self.tasks: dict[int, Task] = {}
        self.cancelling: dict[int, Task] = {}
        self.room: WaitingRoom[Kind] = WaitingRoom(self._waits)
        self.later: list[tuple[float, int, int]] = []  # heap of (due, ref, run): those in backoff
        self.released: dict[int, Released] = {}
        self.leftovers: list[int] = []  # work sequences that nobody will ack
        self.outstanding: dict[str, int] = {}  # lane -> released runs that are open
        self.retrying = 0
        self._options: dict[Options, Options] = {}

    # ------------------------------------------------------------------ the ledger
    def absorb(self, seq: int, entry: LedgerEntry) -> None:
        """Take what the master decided. Entries at or below `ledger` were taken before."""
        if seq <= self.ledger:
            return
        self.ledger = seq
        if isinstance(entry, Delegated):
            for item in entry.items:
                self._delegated(seq, item)
        elif isinstance(entry, Cancel):
            for ref, delegation in entry.tasks:
                task = self.tasks.get(ref)
                if task is not None and delegation_of(task.run) == delegation:
                    task.cancel = True
                    self.cancelling[ref] = task
        elif isinstance(entry, Withdrawn):
            for ref, delegation in entry.tasks:
                task = self.tasks.get(ref)
                if task is not None and delegation_of(task.run) == delegation:
                    self._over(task, reported=False)

    def _delegated(self, seq: int, item: Item) -> None:
        options = item.options or DEFAULTS
        task = Task(
            item.ref,
            item.type,
            item.payload,
            item.priority,
            item.id,
            self._options.setdefault(options, options),
            item.source,
            item.more,
            first_run(seq),
            item.charged,
            item.losses,
        )
        self.tasks[item.ref] = task
        self.room.push(task.priority, task.kind, task.ref)

    # ------------------------------------------------------------------ the own log
    def apply(self, seq: int, entry: RegionEntry) -> None:
        """Obey an entry of the own log."""
        self.sequence = seq
        if isinstance(entry, RegionEpoch):
            self.epoch = entry.epoch
            return
        self.outcomes = entry.outcomes
        tasks = self.tasks
        for _, refs in entry.ok:
            for ref in refs:
                self._over(tasks[ref], reported=True)
        for end in entry.ended:
            self._over(tasks[end.ref], reported=end.sequence != 0)
        for again in entry.again:
            self._next_run(tasks[again.ref], again, seq)
        for back in entry.returned:
            self._over(tasks[back.ref], reported=True)

    def _over(self, task: Task, *, reported: bool) -> None:
        """The task is this region's no more."""
        del self.tasks[task.ref]
        if task.cancel:
            del self.cancelling[task.ref]
        self._close(task, task.due, reported=reported)

    def _next_run(self, task: Task, again: Again, seq: int) -> None:
        due, task.due = task.due, again.at
        self._close(task, due, reported=again.sequence != 0)
        task.run, task.opener = next_run(again.run), seq
        task.charged, task.losses = again.charged, again.losses
        self.retrying += 1
        heapq.heappush(self.later, (again.at, task.ref, task.run))

    def _close(self, task: Task, due: float, *, reported: bool) -> None:
        """Its current run is over: it has left backoff, the waiting room, or a work message."""
        if not task.bundle:
            if due:
                self.retrying -= 1
            else:
                self.room.left(task.priority, task.kind)
            return
        message = self.released[task.bundle]
        del message.open[task.ref]
        self.outstanding[message.lane] -= 1
        message.orphan = message.orphan or not reported
        if not message.open:
            del self.released[task.bundle]
            if message.orphan:
                self.leftovers.append(task.bundle)
        task.bundle = 0

    def _waits(self, level: int, ref: int, kind: Kind) -> bool:
        task = self.tasks.get(ref)
        return (
            task is not None
            and not task.bundle
            and not task.due
            and task.priority == level
            and task.type == kind.type
        )

    # ------------------------------------------------- releases: no entries, the work queue has them
    def become_due(self, now: float, durable: int) -> None:
        """Runs whose time has come wait in the room again, once the entry that opened them is durable."""
        held: list[tuple[float, int, int]] = []
        while self.later and self.later[0][0] <= now:
            due = heapq.heappop(self.later)
            task = self.tasks.get(due[1])
            if task is None or task.run != due[2] or not task.due:
                continue
            if task.opener > durable:
                held.append(due)
                continue
            task.due = 0.0
            self.retrying -= 1
            self.room.push(task.priority, task.kind, task.ref)
        for due in held:
            heapq.heappush(self.later, due)

    def release(self, sequence: int, lane: str, refs: Iterable[int], now: float) -> None:
        """The current runs of these waiting tasks stand in the work message `sequence`."""
        message = Released(lane, {}, now)
        lines: dict[tuple[int, Kind], int] = {}
        for ref in refs:
            task = self.tasks[ref]
            task.bundle = sequence
            message.open[ref] = task.run
            line = (task.priority, task.kind)
            lines[line] = lines.get(line, 0) + 1
        for (level, kind), count in lines.items():
            self.room.left(level, kind, count)
        self.released[sequence] = message
        self.outstanding[lane] = self.outstanding.get(lane, 0) + len(message.open)

    def adopt(self, sequence: int, lane: str, runs: Iterable[tuple[int, int]]) -> bool:
        """A message left in the work queue by an earlier leader. False: all its runs are closed.

        Raises:
            NewerLeader: a run is ahead of what was read: a newer leader released it.
        """
        mine: list[int] = []
        for ref, run in runs:
            task = self.tasks.get(ref)
            if task is None:
                if delegation_of(run) > self.ledger:
                    raise NewerLeader(ref, run)
            elif run > task.run:
                raise NewerLeader(ref, run)
            elif run == task.run and not task.bundle:
                if task.due:
                    task.due = 0.0
                    self.retrying -= 1
                    self.room.push(task.priority, task.kind, ref)
                mine.append(ref)
        if mine:
            self.release(sequence, lane, mine, 0.0)
        return bool(mine)

    def take_leftovers(self) -> list[int]:
        taken, self.leftovers = self.leftovers, []
        return taken

    # ------------------------------------------------------------------ the state as a value
    def digest(self) -> str:
        return digest_of([self.epoch, self.outcomes, list(self._canonical())])

    def _canonical(self) -> Iterator[tuple[object, ...]]:
        for ref in sorted(self.tasks):
            task = self.tasks[ref]
            yield (
                ref, task.type, task.priority, task.run, task.charged, task.losses, task.cancel,
                task.opener, task.source, task.id,
            )  # fmt: skip

    def dump(self) -> bytes:
        """The state as bytes, for a snapshot; `load` of them gives an equal digest."""
        return msgspec.msgpack.encode(
            (self.region, self.epoch, self.ledger, self.outcomes, self.sequence, list(self.tasks.values()))
        )

    @classmethod
    def load(cls, data: bytes) -> RegionState:
        region, epoch, ledger, outcomes, sequence, tasks = msgspec.msgpack.decode(
            data, type=tuple[str, int, int, int, int, list[Task]]
        )
        state = cls(region)
        state.epoch, state.ledger, state.outcomes, state.sequence = epoch, ledger, outcomes, sequence
        for task in tasks:
            task.bundle = 0
            task.options = state._options.setdefault(task.options, task.options)
            state.tasks[task.ref] = task
            if task.cancel:
                state.cancelling[task.ref] = task
            if task.due:
                state.retrying += 1
                heapq.heappush(state.later, (task.due, task.ref, task.run))
            else:
                state.room.push(task.priority, task.kind, task.ref)
        return state


class NewerLeader(Exception):
    """The work queue holds a run that only a newer leader can have released."""

    def __init__(self, ref: int, run: int) -> None:
        super().__init__(f"work holds run {run} of task {ref}, which is ahead of the log")
