"""Every entry of every log, and the core messages between region and worker. msgpack arrays.

Old readers skip what is appended, old bytes get the default: new fields go last, each with a default.
A ledger entry is told apart by its tag; `positions` in an entry say up to where its writer's inputs have
been dealt with by this entry or an earlier one (protocol.md §1).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from echelon.wire.api import End, Options, Submission, Where
from echelon.wire.child import Input
from echelon.wire.codec import pack

encode = pack


# --------------------------------------------------- the ledger (one writer: the master's leader)
class Epoch(msgspec.Struct, array_like=True, tag="epoch"):
    """The first marker of a wall: a new leader. The other markers are empty messages."""

    epoch: int
    writer: str
    at: float


class Dependency(msgspec.Struct, array_like=True, gc=False):
    """What admission found out about a dependency. `kind`: "" lives, "ok", or how it ended otherwise."""

    ref: int
    kind: str = ""
    region: str = ""
    sequence: int = 0


class AdmittedGroup(msgspec.Struct, array_like=True):
    """New tasks of one caller. The k-th task of the *entry* has ref = sequence × 1024 + k."""

    key: str
    inbox: str
    tasks: list[Submission]
    known: dict[int, int] = {}  # as in wire.api.Admission: remembered under `key`
    dependencies: dict[int, list[Dependency]] = {}  # index in `tasks` -> one for each dependency, in order


class Admitted(msgspec.Struct, array_like=True, tag="admitted"):
    at: float
    groups: list[AdmittedGroup]


class More(msgspec.Struct, array_like=True, gc=False):
    """What few tasks have."""

    blob: str = ""
    inputs: list[Input] | None = None
    traceparent: str = ""


class Item(msgspec.Struct, array_like=True, gc=False):
    """A delegated task. `payload` None: read it back from the entry that holds it (`source`)."""

    ref: int
    type: str
    payload: bytes | None
    priority: int
    id: str = ""
    options: Options | None = None
    charged: int = 0  # runs already charged
    losses: int = 0
    source: int = 0  # ledger sequence that holds the payload
    more: More | None = None


class Delegated(msgspec.Struct, array_like=True, tag="delegated"):
    """These tasks are now the region's. The entry's sequence is their delegation number."""

    at: float
    region: str
    items: list[Item]


class Cancel(msgspec.Struct, array_like=True, tag="cancel"):
    """Wanted: the end of these delegated tasks, (ref, delegation). It stays until they have ended."""

    at: float
    region: str
    tasks: list[tuple[int, int]]
    by: str = ""
    reason: str = ""


class Withdrawn(msgspec.Struct, array_like=True, tag="withdrawn"):
    """These delegations, (ref, delegation), are over, whatever the region's log says from now on."""

    at: float
    region: str
    tasks: list[tuple[int, int]]


class Moved(msgspec.Struct, array_like=True, gc=False):
    """A task that lives on, with what it has been charged. `returned`: its delegation is over."""

    ref: int
    charged: int
    losses: int
    returned: bool = False


class Settled(msgspec.Struct, array_like=True, tag="settled"):
    """What has ended for good. `region` "" = decided by the master itself, then `position` is 0."""

    at: float
    region: str
    position: int  # of the region's log
    ok: list[Where]
    ended: list[End]
    moved: list[Moved] = []


class Redriven(msgspec.Struct, array_like=True, tag="redriven"):
    """A task that had ended begins a new series of runs, under its old ref and id."""

    at: float
    ref: int
    task: Submission
    dependencies: list[Dependency] = []
    by: str = ""


LedgerEntry: TypeAlias = Epoch | Admitted | Delegated | Cancel | Withdrawn | Settled | Redriven
ledger_entry: Final = msgspec.msgpack.Decoder(LedgerEntry).decode


# --------------------------------------------------- a region's log (one writer: its leader)
class RegionEpoch(msgspec.Struct, array_like=True, tag="epoch"):
    epoch: int
    writer: str
    at: float


class Again(msgspec.Struct, array_like=True, gc=False):
    """This run is closed; the next opens at `at`. The jitter is in here: replay must not roll dice."""

    ref: int
    run: int
    cause: str  # error | timeout | died | lost | handed_back
    at: float
    charged: int  # totals after this
    losses: int
    sequence: int = 0  # of the outcome that says so, 0 = none (lost)


class Ended(msgspec.Struct, array_like=True, gc=False):
    """This run is closed and the task with it, otherwise than well."""

    ref: int
    run: int
    kind: str  # dead | cancelled | expired | poison
    cause: str  # error | timeout | died | fatal | lost | cancelled
    sequence: int
    charged: int
    losses: int


class Returned(msgspec.Struct, array_like=True, gc=False):
    """This delegation is over; the master places the task again."""

    ref: int
    charged: int
    losses: int


class Verdicts(msgspec.Struct, array_like=True, tag="verdicts"):
    """What the leader made of one read of its inputs: one entry, whatever it holds.

    `ok` groups refs by the outcome message that tells of them. A run is not named there: only the current
    one can have ended well.
    """

    ledger: int  # positions
    outcomes: int
    at: float
    ok: list[tuple[int, list[int]]]  # (sequence in outcomes, refs)
    ended: list[Ended] = []
    again: list[Again] = []
    returned: list[Returned] = []


RegionEntry: TypeAlias = RegionEpoch | Verdicts
region_entry: Final = msgspec.msgpack.Decoder(RegionEntry).decode


# ----------------------------------- core messages (hints; nothing rests on one of them)
class Room(msgspec.Struct, array_like=True):
    """A region's report to the master and to whoever watches, twice a second and on change."""

    region: str
    epoch: int
    credit: int  # delegated and not ended, at most
    types: dict[str, str]  # what living workers offer, as `offer(type, pool)` -> lane
    workers: int
    slots: int
    waiting: int = 0  # delegated, not released
    outstanding: int = 0  # released, not judged
    rate: float = 0.0  # runs judged a second, last 2 s
    retrying: int = 0
    ledger: int = 0  # position
    log: int = 0  # last durable sequence of its log


def offer(task_type: str, pool: str) -> str:
    """The key of a Room's `types`: the type alone for the pool `default`."""
    return task_type if pool == "default" else f"{pool}={task_type}"


class WorkerInfo(msgspec.Struct, array_like=True):
    """The value of a worker's lease."""

    id: str
    region: str
    pool: str
    host: str
    pid: int
    started_at: float
    slots: dict[str, int]  # lane -> slots
    types: dict[str, str]  # task type -> lane
    busy: dict[str, int] = {}
    running: list[int] = []  # refs, at most 100
    cpu: float = 0.0  # percent of the machine
    memory: float = 0.0
    draining: bool = False
    version: str = ""


class Claim(msgspec.Struct, array_like=True):
    """The work sequences that a worker holds. `call`: answers this roll call, then the list is whole."""

    worker: str
    sequences: list[int]
    call: int = 0
    questioned: list[int] = []  # held, but a question about it is open


class RollCall(msgspec.Struct, array_like=True):
    call: int
    epoch: int


class Question(msgspec.Struct, array_like=True):
    """May these doubtful messages run? (work sequence, [(ref, run)])"""

    worker: str
    messages: list[tuple[int, list[tuple[int, int]]]]


class Verdict(msgspec.Struct, array_like=True):
    """One word for each message, in order: over (ack), wait (drop without ack), yours (run `runs`)."""

    words: list[str]
    runs: list[list[tuple[int, int]]]


class Stop(msgspec.Struct, array_like=True):
    """End these runs, (ref, run), if they have not ended, and never begin them. Repeated while they live."""

    runs: list[tuple[int, int]]


room: Final = msgspec.msgpack.Decoder(Room).decode
worker_info: Final = msgspec.msgpack.Decoder(WorkerInfo).decode
claim: Final = msgspec.msgpack.Decoder(Claim).decode
roll_call: Final = msgspec.msgpack.Decoder(RollCall).decode
question: Final = msgspec.msgpack.Decoder(Question).decode
verdict: Final = msgspec.msgpack.Decoder(Verdict).decode
stop: Final = msgspec.msgpack.Decoder(Stop).decode
