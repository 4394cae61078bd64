"""What is asked of the read model. Each function is one question; none of them writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from echelon.wire.api import End, Notice, Where
from echelon.wire.child import CANCELLED, DIED, ERROR, FATAL, OK, TIMEOUT
from echelon.wire.names import id_of, ref_of
from echelon_core.life import LIVE, Event, Stage, status, step
from echelon_web.readmodel.rows import BUCKET_S, NEVER, STATUSES, Row, Submitted, row_of, submitted_of

_TASK: Final = "SELECT ref, id, type, submitted, row FROM tasks"
_OUTCOME: Final = {
    OK: "success",
    ERROR: "failure",
    FATAL: "failure",
    DIED: "failure",
    TIMEOUT: "timeout",
    CANCELLED: "cancelled",
}


class Attempt(msgspec.Struct):
    """One run of a task. Times are seconds since 1970, 0 = not known."""

    run: int
    region: str
    worker: str | None = None
    started: float = 0.0
    ended: float = 0.0
    outcome: str | None = None  # success failure timeout cancelled lost; None = under way
    type: str | None = None
    message: str | None = None
    traceback: str | None = None
    sequence: int = 0
    cause: str | None = None
    due: float = 0.0


class Task(msgspec.Struct):
    ref: int
    id: str
    type: str
    submitted: Submitted
    row: Row
    attempts: list[Attempt] = []  # filled in by `with_attempts`

    def stage(self, now: float) -> Stage:
        """A wait before the next run ends by itself; no entry says so."""
        stage = self.row.stage
        if stage is Stage.RETRYING and self.row.due <= now:
            return step(stage, Event.DUE) or stage
        return stage

    @property
    def live(self) -> bool:
        return self.row.stage in LIVE


class Needed(msgspec.Struct):
    """A task at the other end of a dependency."""

    ref: int
    id: str
    type: str
    stage: Stage
    started: float
    ended: float


def _task(row: tuple[int, str | None, str, bytes, bytes]) -> Task:
    ref, name, kind, submitted, changing = row
    return Task(ref, name or id_of(ref), kind, submitted_of(submitted), row_of(changing))


def task(db: sqlite3.Connection, name: str) -> Task | None:
    """By id: the newest of that name, for names may come again when their history is over."""
    ref = ref_of(name)
    if ref is None:
        found = db.execute(f"{_TASK} WHERE id = ? ORDER BY ref DESC LIMIT 1", (name,)).fetchone()
    else:
        found = db.execute(f"{_TASK} WHERE ref = ?", (ref,)).fetchone()
    return with_attempts(db, [_task(found)])[0] if found else None


def by_refs(db: sqlite3.Connection, refs: Sequence[int]) -> dict[int, Task]:
    rows = db.execute(f"{_TASK} WHERE ref IN (SELECT value FROM json_each(?))", (json.dumps(refs),))
    return {found.ref: found for found in map(_task, rows)}


def tasks(
    db: sqlite3.Connection, status: str | None, limit: int, offset: int = 0, upto: int | None = None
) -> list[Task]:
    """Newest first; `upto`: none newer than this ref."""
    where, values = [], []
    if status is not None:
        place = STATUSES.index(status)
        where.append("status = ?" if status == "completed" else "status <> 2 AND status = ?")
        values.append(place)
    if upto is not None:
        where.append("ref <= ?")
        values.append(upto)
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    rows = db.execute(f"{_TASK}{clause} ORDER BY ref DESC LIMIT ? OFFSET ?", (*values, limit, offset))
    return [_task(row) for row in rows]


def newer(db: sqlite3.Connection, ref: int, status: str | None, cap: int) -> int:
    """How many tasks are newer than this one; counts no further than `cap`."""
    clause, values = "", [ref]
    if status is not None:
        index = "" if status == "completed" else " AND status <> 2"
        clause, values = f"{index} AND status = ?", [ref, STATUSES.index(status)]
    count = db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM tasks WHERE ref > ?{clause} LIMIT ?)", (*values, cap)
    )
    return int(count.fetchone()[0])


def with_attempts(db: sqlite3.Connection, found: list[Task]) -> list[Task]:
    """Fill in the runs of each, oldest first. The newest stands in the row, the others beside it."""
    rows = db.execute(
        "SELECT ref, run, region, worker, started, ended, status,"
        " type, message, traceback, sequence, cause, due"
        " FROM attempts WHERE ref IN (SELECT value FROM json_each(?)) ORDER BY ref, run",
        (json.dumps([task.ref for task in found]),),
    )
    by_ref: dict[int, dict[int, Attempt]] = {}
    for ref, run, region, worker, started, ended, how, *said, sequence, cause, due in rows:
        attempt = Attempt(run, region, worker, started or 0.0, ended or 0.0, _OUTCOME.get(how), *said)
        attempt.sequence, attempt.cause, attempt.due = sequence or 0, cause, due or 0.0
        if attempt.outcome is None and cause == "lost":
            attempt.outcome = "lost"
        by_ref.setdefault(ref, {})[run] = attempt
    for one in found:
        one.attempts = _merged(one, by_ref.get(one.ref, {}))
    return found


def _merged(found: Task, beside: dict[int, Attempt]) -> list[Attempt]:
    row = found.row
    if row.run:
        newest = beside.setdefault(row.run, Attempt(row.run, row.run_region))
        newest.worker = row.worker
        newest.started = row.run_started
        if row.run_status != NEVER:
            newest.ended = row.run_ended
            newest.outcome = _OUTCOME.get(row.run_status)
            newest.sequence = row.run_sequence
    last = max(beside, default=0)
    for run, attempt in beside.items():
        if attempt.outcome is None and (run != last or not found.live):
            attempt.outcome = "cancelled" if row.stage is Stage.CANCELLED and run == last else "lost"
    return [beside[run] for run in sorted(beside)]


def ended(db: sqlite3.Connection, refs: Iterable[int], at_hand: Mapping[int, Row]) -> Notice:
    """Of these tasks those that have ended. `at_hand`: rows in memory, newer than the file."""
    where: dict[tuple[str, int], list[int]] = {}
    others: list[End] = []
    stored: list[int] = []

    def add(ref: int, row: Row) -> None:
        if row.stage is Stage.COMPLETED:
            where.setdefault((row.end_region, row.end_sequence), []).append(ref)
        elif row.stage not in LIVE:
            cause, detail = row.cause or "", row.detail or ""
            others.append(End(ref, row.stage.value, cause, detail, row.end_region, row.end_sequence))

    for ref in refs:
        row = at_hand.get(ref)
        if row is None:
            stored.append(ref)
        else:
            add(ref, row)
    rows = db.execute(
        "SELECT ref, row FROM tasks WHERE ref IN (SELECT value FROM json_each(?)) AND status >= 2",
        (json.dumps(stored),),
    )
    for ref, changing in rows:
        add(ref, row_of(changing))
    ok = [Where(region, sequence, some) for (region, sequence), some in where.items()]
    return Notice(ok, others)


def needs(db: sqlite3.Connection, ref: int, limit: int) -> list[Needed]:
    """What this task depends on, in the order that its user gave."""
    return _needed(
        db,
        "SELECT t.ref, t.id, t.type, t.row FROM dependencies d JOIN tasks t ON t.ref = d.needs"
        " WHERE d.ref = ? ORDER BY d.place LIMIT ?",
        (ref, limit),
    )


def needed_by(db: sqlite3.Connection, ref: int, limit: int) -> list[Needed]:
    return _needed(
        db,
        "SELECT t.ref, t.id, t.type, t.row FROM dependencies d JOIN tasks t ON t.ref = d.ref"
        " WHERE d.needs = ? ORDER BY d.ref LIMIT ?",
        (ref, limit),
    )


def _needed(db: sqlite3.Connection, statement: str, values: tuple[int, int]) -> list[Needed]:
    return [
        Needed(ref, name or id_of(ref), kind, row.stage, row.started, row.ended)
        for ref, name, kind, changing in db.execute(statement, values)
        for row in (row_of(changing),)
    ]


def left(db: sqlite3.Connection, refs: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Of each of these tasks: how many of its dependencies have not ended well, of how many."""
    rows = db.execute(
        "SELECT d.ref, sum(t.status IS NOT 2), count(*)"
        " FROM dependencies d LEFT JOIN tasks t ON t.ref = d.needs"
        " WHERE d.ref IN (SELECT value FROM json_each(?)) GROUP BY d.ref",
        (json.dumps(list(refs)),),
    )
    return {ref: (open_, total) for ref, open_, total in rows}


def dependency_ids(db: sqlite3.Connection, refs: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    rows = db.execute(
        "SELECT d.ref, t.id, d.needs FROM dependencies d LEFT JOIN tasks t ON t.ref = d.needs"
        " WHERE d.ref IN (SELECT value FROM json_each(?)) ORDER BY d.ref, d.place",
        (json.dumps(list(refs)),),
    )
    for ref, name, other in rows:
        found.setdefault(ref, []).append(name or id_of(other))
    return found


def pending_types(db: sqlite3.Connection, cap: int) -> dict[str, int]:
    """Type -> how many wait, of the `cap` oldest that do."""
    rows = db.execute(
        "SELECT type, count(*) FROM"
        " (SELECT type FROM tasks WHERE status <> 2 AND status = 0 ORDER BY ref LIMIT ?) GROUP BY type",
        (cap,),
    )
    return dict(rows.fetchall())


class Bucket(msgspec.Struct):
    """What happened in ten seconds."""

    at: float
    region: str  # "" = at the master
    admitted: int
    placed: int
    completed: int
    failed: int
    cancelled: int


def rates(db: sqlite3.Connection, since: float) -> list[Bucket]:
    rows = db.execute("SELECT * FROM rates WHERE bucket >= ? ORDER BY bucket", (int(since) // BUCKET_S,))
    return [Bucket(bucket * BUCKET_S, *rest) for bucket, *rest in rows]


def ahead(db: sqlite3.Connection, ref: int, cap: int) -> int:
    """How many older tasks wait; counts no further than `cap`."""
    rows = db.execute(
        "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE status <> 2 AND status = 0 AND ref < ? LIMIT ?)",
        (ref, cap),
    )
    return int(rows.fetchone()[0])


def total(db: sqlite3.Connection, status_word: str | None) -> int:
    """How many tasks there are, or how many of a status; kept as a count, not counted."""
    rows = db.execute("SELECT stage, tasks FROM counts").fetchall()
    return sum(count for stage, count in rows if status_word in (None, status(Stage(stage))))


def counts(db: sqlite3.Connection) -> dict[Stage, int]:
    return {Stage(stage): tasks for stage, tasks in db.execute("SELECT stage, tasks FROM counts")}


def oldest_ready(db: sqlite3.Connection, cap: int = 200) -> Task | None:
    """The oldest task that could run if there were room, among the `cap` oldest that have not begun."""
    rows = db.execute(f"{_TASK} WHERE status <> 2 AND status = 0 ORDER BY ref LIMIT ?", (cap,))
    ready = (Stage.READY, Stage.DELEGATED, Stage.QUEUED)
    return next((found for found in map(_task, rows) if found.row.stage in ready), None)


def needed_by_count(db: sqlite3.Connection, ref: int, cap: int) -> int:
    rows = db.execute("SELECT count(*) FROM (SELECT 1 FROM dependencies WHERE needs = ? LIMIT ?)", (ref, cap))
    return int(rows.fetchone()[0])


def first_open(db: sqlite3.Connection, ref: int) -> Task | None:
    """The first of its dependencies that has not ended well."""
    found = db.execute(
        "SELECT t.ref, t.id, t.type, t.submitted, t.row FROM dependencies d JOIN tasks t ON t.ref = d.needs"
        " WHERE d.ref = ? AND t.status <> 2 ORDER BY d.place LIMIT 1",
        (ref,),
    ).fetchone()
    return _task(found) if found else None
