"""Streams, subjects, buckets and headers: built here or nowhere (API subjects: `echelon.wire.names`)."""

from __future__ import annotations

from typing import Final

from echelon.wire.names import BLOBS, PREFIX, outcomes_stream

LEDGER: Final = f"{PREFIX}_ledger"
LEASES: Final = f"{PREFIX}_leases"
LEASES_STREAM: Final = f"KV_{LEASES}"
BLOBS_STREAM: Final = f"OBJ_{BLOBS}"
LEDGER_SUBJECTS: Final = f"{PREFIX}.ledger.>"

ADMITTED: Final = f"{PREFIX}.ledger.admitted"
SETTLED: Final = f"{PREFIX}.ledger.settled"
SYSTEM: Final = f"{PREFIX}.ledger.system"

DISCONNECTS: Final = f"{PREFIX}.sys.disconnect"
"""The server's disconnect events, imported from its system account."""
ROOMS: Final = f"{PREFIX}.room.*"

WRITER_HEADER: Final = "Echelon-Writer"


def delegated(region: str) -> str:
    return f"{PREFIX}.ledger.delegated.{region}"


def control(region: str) -> str:
    return f"{PREFIX}.ledger.control.{region}"


def outcomes(region: str) -> str:
    return outcomes_stream(region)


def outcome_subject(region: str) -> str:
    return f"{PREFIX}.outcome.{region}"


def region_log(region: str) -> str:
    return f"{PREFIX}_region_{region}"


def region_subject(region: str) -> str:
    return f"{PREFIX}.region.{region}"


def work(region: str) -> str:
    return f"{PREFIX}_work_{region}"


def work_subjects(region: str) -> str:
    return f"{PREFIX}.work.{region}.>"


def work_subject(region: str, pool: str, lane: str) -> str:
    """Bundles for one lane ("async" or "sync") of a pool: each lane has slots of its own (ADR 3)."""
    return f"{PREFIX}.work.{region}.{pool}.{lane}"


def work_wall(region: str) -> str:
    """Markers of the wall; no consumer filters this subject. Pools cannot begin with `_`."""
    return f"{PREFIX}.work.{region}._wall"


def work_consumer(pool: str, lane: str) -> str:
    """The durable pull consumer of a lane. `=` cannot stand in a pool's name."""
    return f"{pool}={lane}"


def room(region: str) -> str:
    """Core message, a region's report of what it has room for (entries.Room)."""
    return f"{PREFIX}.room.{region}"


def claims(region: str) -> str:
    """Core message, worker to region: what it holds (entries.Claim)."""
    return f"{PREFIX}.claim.{region}"


def questions(region: str) -> str:
    """Request, worker to region: may I run these doubtful messages? (entries.Question)"""
    return f"{PREFIX}.ask.{region}"


def roll_call(region: str) -> str:
    """Core message, region to all its workers: say what you hold (entries.RollCall)."""
    return f"{PREFIX}.rollcall.{region}"


def orders(region: str) -> str:
    """Core message, region to all its workers: stop these runs (entries.Stop)."""
    return f"{PREFIX}.orders.{region}"


def master_lease() -> str:
    return "leader.master"


def region_lease(region: str) -> str:
    return f"leader.region.{region}"


def worker_lease(region: str, worker: str) -> str:
    return f"worker.{region}.{worker}"


def worker_leases(region: str = "*") -> str:
    return f"worker.{region}.*"


def lease_subject(key: str) -> str:
    return f"$KV.{LEASES}.{key}"


def connection_name(kind: str, region: str, name: str) -> str:
    """The name a process gives its connection; the disconnect event repeats it."""
    return f"{PREFIX}/{kind}/{region}/{name}"


def is_ours(subject: str) -> bool:
    """Does Echelon or the server itself speak there? Nobody may have answers sent to such a subject."""
    return subject.partition(".")[0] == PREFIX or subject.startswith("$")
