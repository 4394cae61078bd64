"""What the master keeps of a live task, and how it finds it: small records in two levels.

entry sequence -> Batch -> index -> Task: no dict of a million. What many tasks share (type, options) is one
Kind; what few have (dependencies, blobs) is their Kin. A million waiting tasks are about 170 bytes each
beside their payloads. A Batch of which few still live becomes a dict, so that one long task does not hold
the places of a thousand ended ones.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from echelon.wire.api import DEFAULTS, End, Options, Submission, fingerprint
from echelon.wire.child import Input
from echelon_core.entries import Dependency, More

# Task.stage
WAITING: Final = 0  # for dependencies
READY: Final = 1
OUT: Final = 2  # delegated
BACK: Final = 3  # its region has returned it: to be withdrawn, then placed again
DOOMED: Final = 4  # `kin.doom` says how it ends: the next entry

SPARSE: Final = 8
"""A batch becomes a dict when fewer than one in so many of its tasks live."""

Place: TypeAlias = tuple[str, str, str]  # type, region ("" = any), pool: what decides where a task may go


class Kind(msgspec.Struct, gc=False):
    """What tasks have in common. Lives as long as one of them does."""

    type: str
    options: Options
    place: Place
    tasks: int = 0


class Kin(msgspec.Struct, array_like=True, gc=False):
    """What few tasks have."""

    names: tuple[str, ...] = ()  # of its dependencies, as its user gave them
    dependencies: list[Dependency] = []  # in the same order; `kind` "" = not ended
    left: int = 0  # dependencies that it waits for
    dependants: list[int] | None = None  # dependant's ref << 14 | place among its dependencies
    blob: str = ""
    payload_bytes: int = 0  # of a payload that waits elsewhere: in the ledger or the object store
    traceparent: str = ""
    source: int = 0  # ledger sequence that holds the payload, where that is not the ref's
    doom: End | None = None

    def more(self) -> More | None:
        """What a region must know of it."""
        inputs = [
            Input(name, d.ref, d.region, d.sequence)
            for name, d in zip(self.names, self.dependencies, strict=True)
            if d.kind == "ok"
        ]
        if not (inputs or self.blob or self.traceparent):
            return None
        return More(self.blob, inputs or None, self.traceparent)


class Task(msgspec.Struct, gc=False):
    """A task that has not ended."""

    kind: Kind
    payload: bytes | None  # None: not in memory; the entry of its source has it
    priority: int
    stage: int
    id: str = ""
    mark: bytes = b""  # of a task with an id: what an equal submission has too
    kin: Kin | None = None
    region: str = ""
    delegation: int = 0
    charged: int = 0
    losses: int = 0
    wanted: bool = False  # its end is: a cancel was accepted


class Batch(msgspec.Struct, gc=False):
    """The tasks that one entry admitted, by index."""

    tasks: list[Task | None] | dict[int, Task | None]
    live: int
    inbox: str | list[tuple[int, str]] = ""  # of all, or (first index, inbox) in order

    def inbox_of(self, index: int) -> str:
        if isinstance(self.inbox, str):
            return self.inbox
        return self.inbox[bisect_right(self.inbox, index, key=lambda row: row[0]) - 1][1]

    def rows(self) -> list[tuple[int, Task]]:
        """Index and task of those that live, in order."""
        rows = enumerate(self.tasks) if isinstance(self.tasks, list) else sorted(self.tasks.items())
        return [(index, task) for index, task in rows if task is not None]

    def end(self, index: int) -> None:
        self.tasks[index] = None
        self.live -= 1
        if isinstance(self.tasks, dict):
            del self.tasks[index]
        elif 0 < self.live * SPARSE < len(self.tasks):
            self.tasks = {index: task for index, task in enumerate(self.tasks) if task is not None}


class Region(msgspec.Struct, array_like=True, gc=False):
    """A region as the ledger knows it."""

    out: int = 0  # tasks delegated to it and not ended
    position: int = 0  # of its log: dealt with up to here
    latest: int = 0  # sequence of the newest delegation to it


class Answered(msgspec.Struct, array_like=True, gc=False):
    """How a request was answered: as `wire.api.Admission`, for as long as its key is remembered."""

    first: int
    count: int
    known: dict[int, int] | None = None


class Kinds:
    """Each distinct pair of type and options once."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, Options | None], Kind] = {}

    def __contains__(self, pair: tuple[str, Options | None]) -> bool:
        return pair in self._kinds

    def __len__(self) -> int:
        return len(self._kinds)

    def of(self, task_type: str, options: Options | None) -> Kind:
        kind = self._kinds.get((task_type, options))
        if kind is None:
            if options is not None and options == DEFAULTS:
                return self.of(task_type, None)
            chosen = DEFAULTS if options is None else options
            place = (task_type, chosen.region, chosen.pool)
            kind = Kind(task_type, chosen, place)
            self._kinds[task_type, options] = kind
        return kind

    def forget(self, kind: Kind) -> None:
        """Its last task has ended."""
        del self._kinds[kind.type, None if kind.options is DEFAULTS else kind.options]


class EndedTask(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a task that has ended. `kind`: ok, failed, cancelled or expired."""

    ref: int
    kind: str
    region: str = ""
    sequence: int = 0  # of its outcome
    id: str = ""
    mark: bytes = b""


class Ended(Protocol):
    """Where ended tasks are looked up (`ended.py`)."""

    def named(self, ids: Sequence[str]) -> dict[str, EndedTask]:
        """Those of these ids whose tasks have ended."""
        ...

    def by_ref(self, ref: int) -> EndedTask | None: ...


def mark_of(task: Submission) -> bytes:
    """Equal for equal submissions. 15 bytes: with one more its object would take the next larger block."""
    return hashlib.blake2b(fingerprint(task), digest_size=15).digest()


def kin_of(task: Task) -> Kin:
    if task.kin is None:
        task.kin = Kin()
    return task.kin


def dependency_end(ref: int, name: str, kind: str) -> End:
    """How a task ends whose dependency `name` has ended as `kind`, other than well."""
    if kind == "cancelled":
        return End(ref, "cancelled", "dependency_cancelled", name)
    return End(ref, "failed", "dependency_failed", name)
