"""The file of the read model: SQLite, one writer, any number of readers, derived and therefore never synced.

What a batch changes and how far it read are one transaction, so a crash repeats nothing and loses nothing.
A file of another layout, of another ledger, or ahead of it, is deleted and made anew from the streams.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from msgspec.structs import astuple

from echelon_core.life import Stage
from echelon_web.readmodel.rows import BUCKET_S, Row, Writes, renewed, row_of

LAYOUT: Final = 1
RATES_KEPT: Final = 26 * 3600 // BUCKET_S
_ROWS_A_READ: Final = 500
_ROWS_A_STEP: Final = 1000

_NEW: Final = "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)"
_CHANGED: Final = "UPDATE tasks SET status=?, row=? WHERE ref=?"
# Of two reports about one run the first counts; a start that came alone gives way to the report.
_FACT: Final = """
INSERT INTO attempts (ref, run, region, worker, started, ended, status, type, message, traceback, sequence)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  region = CASE WHEN status IS NULL THEN excluded.region ELSE region END,
  worker = CASE WHEN status IS NULL THEN coalesce(excluded.worker, worker) ELSE worker END,
  started = CASE WHEN status IS NULL AND excluded.status IS NOT NULL
            THEN coalesce(excluded.started, started) ELSE coalesce(started, excluded.started) END,
  ended = coalesce(ended, excluded.ended),
  type = CASE WHEN status IS NULL THEN excluded.type ELSE type END,
  message = CASE WHEN status IS NULL THEN excluded.message ELSE message END,
  traceback = CASE WHEN status IS NULL THEN excluded.traceback ELSE traceback END,
  sequence = coalesce(sequence, excluded.sequence),
  status = coalesce(status, excluded.status)
"""
_VERDICT: Final = """
INSERT INTO attempts (ref, run, region, cause, due) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET cause = excluded.cause, due = excluded.due
"""
_RATE: Final = """
INSERT INTO rates VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET admitted = admitted + excluded.admitted, placed = placed + excluded.placed,
  completed = completed + excluded.completed, failed = failed + excluded.failed,
  cancelled = cancelled + excluded.cancelled
"""


class Busy(Exception):
    """Another web node uses this file."""


class Store:
    """The writer's side. `path` None: in memory, for tests."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = _lock(path) if path else -1
        self.db = sqlite3.connect(":memory:")
        try:
            self.db = _open(path)
            usable = self.db.execute("PRAGMA user_version").fetchone()[0] == LAYOUT
        except sqlite3.DatabaseError:
            usable = False
        if not usable:
            self.start_anew()

    def start_anew(self) -> None:
        """Empty, whatever was in it."""
        if self.path:
            self.db.close()
            for tail in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
            self.db = _open(self.path)
        self.db.executescript(files("echelon_web.readmodel").joinpath("schema.sql").read_text())
        self.db.execute(f"PRAGMA user_version = {LAYOUT}")

    def close(self) -> None:
        self.db.close()
        if self._lock >= 0:
            os.close(self._lock)

    # ------------------------------------------------------------------------------------- read
    def positions(self) -> dict[str, tuple[str, int]]:
        """Stream -> (when it was created, last sequence read)."""
        rows = self.db.execute("SELECT stream, created, seq FROM positions")
        return {stream: (created, seq) for stream, created, seq in rows}

    def counts(self) -> dict[Stage, int]:
        return {Stage(stage): tasks for stage, tasks in self.db.execute("SELECT stage, tasks FROM counts")}

    def rows(self, refs: Iterable[int]) -> dict[int, Row]:
        """Those that exist."""
        found: dict[int, Row] = {}
        wanted = list(refs)
        for start in range(0, len(wanted), _ROWS_A_READ):
            some = wanted[start : start + _ROWS_A_READ]
            marks = ",".join("?" * len(some))
            for ref, row in self.db.execute(f"SELECT ref, row FROM tasks WHERE ref IN ({marks})", some):
                found[ref] = row_of(row)
        return found

    # ------------------------------------------------------------------------------------ write
    def write(self, writes: Writes, positions: Mapping[str, tuple[str, int]]) -> Iterator[None]:
        """One transaction, in steps of a few ms: done when the iterator is exhausted."""
        db = self.db
        db.execute("BEGIN")
        for statement, rows in (
            (_NEW, writes.new),
            (_CHANGED, writes.changed),
            (_FACT, writes.facts),
            (_VERDICT, writes.verdicts),
            ("INSERT OR REPLACE INTO dependencies VALUES (?, ?, ?)", writes.dependencies),
        ):
            for start in range(0, len(rows), _ROWS_A_STEP):
                db.executemany(statement, rows[start : start + _ROWS_A_STEP])
                yield
        for ref, task in writes.renewed:
            (before,) = db.execute("SELECT submitted FROM tasks WHERE ref = ?", (ref,)).fetchone()
            db.execute("UPDATE tasks SET submitted = ? WHERE ref = ?", (renewed(task, before), ref))
        if writes.rates:
            db.executemany(_RATE, [(*key, *astuple(rates)) for key, rates in writes.rates.items()])
            newest = max(bucket for bucket, _ in writes.rates)
            db.execute("DELETE FROM rates WHERE bucket < ?", (newest - RATES_KEPT,))
        db.executemany(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks",
            [(stage, more) for stage, more in writes.counts.items() if more],
        )
        db.executemany(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
            [(stream, created, seq) for stream, (created, seq) in positions.items()],
        )
        db.execute("COMMIT")


def reader(path: Path) -> sqlite3.Connection:
    """For queries: sees what was committed, changes nothing."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA mmap_size = 268435456")
    return db


def _open(path: Path | None) -> sqlite3.Connection:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path or ":memory:", isolation_level=None)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = OFF",  # what a power cut takes is read again from the streams
        "wal_autocheckpoint = 4000",
        "journal_size_limit = 67108864",
        "cache_size = -32000",
        "temp_store = MEMORY",
    ):
        db.execute(f"PRAGMA {pragma}")
    return db


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        said = f"{path} is used by another web node: give this one a folder of its own with --data."
        raise Busy(said) from None
    return handle
