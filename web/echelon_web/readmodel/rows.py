"""What the read model keeps of a task, and the entries of the streams as far as it reads them.

The entries are those of `echelon_core.entries`, without what is not needed: decoding is most of the cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from echelon.wire.api import Options, Submission
from echelon.wire.child import Ran
from echelon.wire.codec import pack
from echelon_core.entries import Admitted, Again, Cancel, Ended, Epoch, Redriven, Settled, Withdrawn
from echelon_core.life import Stage

STATUSES: Final = ("pending", "running", "completed", "failed", "cancelled")
INLINE: Final = 2048
"""Payloads and results up to this many bytes stand in the row; others are read where they lie, on demand."""
TRACEBACK: Final = 8000
BUCKET_S: Final = 10
NEVER: Final = -1


class Placed(msgspec.Struct, array_like=True, gc=False):
    """Of a delegated item only the ref: what else it says is known from its admission."""

    ref: int


class Delegated(msgspec.Struct, array_like=True, tag="delegated"):
    at: float
    region: str
    items: list[Placed]


class Verdicts(msgspec.Struct, array_like=True, tag="verdicts"):
    """A region's entry without what `settled` repeats."""

    ledger: int
    outcomes: int
    at: float
    ok: msgspec.Raw
    ended: list[Ended] = []
    again: list[Again] = []


class RegionEpoch(msgspec.Struct, array_like=True, tag="epoch"):
    epoch: int


LedgerEntry: TypeAlias = Epoch | Admitted | Delegated | Cancel | Withdrawn | Settled | Redriven
ledger_entry: Final = msgspec.msgpack.Decoder(LedgerEntry).decode
region_entry: Final = msgspec.msgpack.Decoder(RegionEpoch | Verdicts).decode


class Row(msgspec.Struct, array_like=True, gc=False):
    """What changes of a task, kept as one msgpack value. Times are seconds since 1970, 0 = not yet."""

    stage: Stage
    dirty: bool = False  # this batch has touched it
    series: int = 0  # ledger sequence of the last redrive
    delegation: int = 0  # ledger sequence of the current one
    placements: int = 0
    region: str = ""
    placed: float = 0.0
    charged: int = 0
    losses: int = 0
    closed: int = 0  # the last run that another will follow,
    due: float = 0.0  # from then on
    run: int = 0  # the newest run known to have begun, and what is known of it:
    run_region: str = ""
    worker: str | None = None
    run_started: float = 0.0
    run_ended: float = 0.0
    run_status: int = NEVER  # wire.child.OK …
    run_sequence: int = 0  # in the outcomes of run_region
    result: bytes | None = None
    result_bytes: int = 0
    result_blob: str | None = None
    started: float = 0.0  # the first start of this series
    ended: float = 0.0
    end_seq: int = 0  # in the ledger
    cause: str | None = None
    detail: str | None = None
    end_region: str = ""
    end_sequence: int = 0  # of the outcome that ended it
    cancel: str | None = None  # who wants its end, and why


row_of: Final = msgspec.msgpack.Decoder(Row).decode


class Submitted(msgspec.Struct, array_like=True, gc=False):
    """What its user said of a task; kept as one msgpack value too."""

    priority: int
    payload: bytes | None  # JSON text up to INLINE bytes; None = in the ledger, or `blob`
    payload_bytes: int
    blob: str
    options: Options | None
    dependencies: int  # how many
    created: float


submitted_of: Final = msgspec.msgpack.Decoder(Submitted).decode


class Rates(msgspec.Struct):
    admitted: int = 0
    placed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class Writes(msgspec.Struct):
    """What one batch changes: parameters for the statements of `store`."""

    new: list[tuple[Any, ...]] = []  # ref, id, type, status, Submitted, Row
    changed: list[tuple[int, bytes, int]] = []  # status, Row, ref
    renewed: list[tuple[int, Submission]] = []  # redriven: what was submitted anew
    facts: list[tuple[Any, ...]] = []
    verdicts: list[tuple[Any, ...]] = []
    dependencies: list[tuple[int, int, int]] = []
    rates: dict[tuple[int, str], Rates] = {}
    counts: dict[Stage, int] = {}


def submitted(task: Submission, at: float) -> bytes:
    payload, blob = task.payload, task.blob
    size = len(payload)
    return pack(
        Submitted(
            task.priority,
            payload if size <= INLINE and not blob else None,
            task.payload_bytes if blob else size,
            blob,
            task.options,
            len(task.dependencies),
            at,
        )
    )


def renewed(task: Submission, before: bytes) -> bytes:
    """`Submitted` of a redriven task: it was created when it was first admitted."""
    return submitted(task, submitted_of(before).created)


def fact(region: str, worker: str, sequence: int, ran: Ran) -> tuple[Any, ...]:
    error = ran.error
    started = ran.started if ran.started > 0 else None
    said = (None, None, None) if error is None else (error.type, error.message, error.traceback[-TRACEBACK:])
    return (ran.ref, ran.run, region, worker, started, ran.ended, ran.status, *said, sequence)


def refs_of(entry: LedgerEntry) -> Iterable[int]:
    """The known tasks that a ledger entry speaks of."""
    match entry:
        case Delegated():
            return [item.ref for item in entry.items]
        case Settled():
            refs = [ref for where in entry.ok for ref in where.refs]
            refs.extend(end.ref for end in entry.ended)
            refs.extend(moved.ref for moved in entry.moved)
            return refs
        case Cancel() | Withdrawn():
            return [ref for ref, _ in entry.tasks]
        case Redriven():
            return [entry.ref]
        case _:
            return ()
