"""The ended index: what became of tasks that have ended, in SQLite beside the master.

Derived from the ledger, so it may be thrown away: then the whole ledger is read again. Written in batches by
a thread of its own, and only what is durable in the ledger; what was applied a moment ago and is not written
yet is looked up in memory. The position up to which it has the ledger is stored in the same transaction.

A task with an id has a row. One without has none: its ref says in which entry it was admitted, `spans` says
which settled entries speak of tasks of that entry, and those are kept as they are.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from echelon_core.entries import Settled, encode, ledger_entry
from echelon_master.tables import EndedTask

FORMAT: Final = "1"
LOOK_UP_AT_ONCE: Final = 500
ENTRIES_KEPT: Final = 16

_SCHEMA: Final = """
create table if not exists meta (key text primary key, value text) without rowid;
create table if not exists ids (
    id text primary key, ref integer, kind text, region text, sequence integer, mark blob
) without rowid;
create table if not exists settled (seq integer primary key, entry blob);
create table if not exists spans (admitted integer, settled integer, primary key (admitted, settled))
    without rowid;
"""


class _Fed(NamedTuple):
    seq: int
    entry: Settled
    named: list[EndedTask]


class EndedIndex:
    """`echelon_master.tables.Ended`, kept on disk."""

    def __init__(self, path: Path, stream: str) -> None:
        """`stream` tells this ledger from any other: an index of another one is begun anew."""
        self._path = path
        self._stream = stream
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError:
            self.forget()
        self._fed: deque[_Fed] = deque()  # applied and not written
        self._new: dict[str, tuple[int, EndedTask]] = {}
        self._decoded: OrderedDict[int, dict[int, EndedTask]] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "ended")
        self._one_at_a_time = asyncio.Lock()
        self.waiting = 0  # tasks in `_fed`

    def _open(self) -> None:
        self._reading = self._connect()
        self._writing = self._connect()
        with self._writing as db:
            db.executescript(_SCHEMA)
            known = dict(db.execute("select key, value from meta").fetchall())
            if known.get("stream", self._stream) != self._stream or known.get("format", FORMAT) != FORMAT:
                raise sqlite3.DatabaseError("an index of another ledger or release")
            db.executemany(
                "insert or ignore into meta values (?, ?)",
                [("stream", self._stream), ("format", FORMAT), ("position", "0")],
            )
        self.position = int(known.get("position", 0))

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, timeout=10.0)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        return db

    def forget(self) -> None:
        """Begin anew: the ledger has everything."""
        for name in ("_reading", "_writing"):
            if (db := getattr(self, name, None)) is not None:
                db.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._open()

    # ------------------------------------------------------------------ feeding
    def feed(self, seq: int, entry: Settled, named: list[EndedTask]) -> None:
        """An entry was applied. On replay it may have been written long ago."""
        if seq <= self.position:
            return
        self._fed.append(_Fed(seq, entry, named))
        self.waiting += sum([len(where.refs) for where in entry.ok]) + len(entry.ended)
        for task in named:
            self._new[task.id] = (seq, task)

    async def write(self, durable: int) -> None:
        """Write what is durable, in the background."""
        async with self._one_at_a_time:
            if durable > self.position:
                rows = self._durable(durable)
                await asyncio.get_running_loop().run_in_executor(self._writer, self._store, rows, durable)
                self._written(rows, durable)

    def write_now(self, durable: int) -> None:
        """The same, at once: for recovery."""
        rows = self._durable(durable)
        self._writer.submit(self._store, rows, durable).result()
        self._written(rows, durable)

    def _durable(self, durable: int) -> list[_Fed]:
        return [fed for fed in self._fed if fed.seq <= durable]

    def _written(self, rows: Sequence[_Fed], durable: int) -> None:
        self.position = durable
        for _ in rows:
            seq, entry, named = self._fed.popleft()
            self.waiting -= sum([len(where.refs) for where in entry.ok]) + len(entry.ended)
            for task in named:
                if self._new.get(task.id, (0, task))[0] == seq:
                    del self._new[task.id]

    def _store(self, rows: Iterable[_Fed], durable: int) -> None:
        with self._writing as db:
            for seq, entry, named in rows:
                db.execute("insert or replace into settled values (?, ?)", (seq, encode(entry)))
                admitted = {ref >> 10 for where in entry.ok for ref in where.refs}
                admitted.update(end.ref >> 10 for end in entry.ended)
                db.executemany("insert or ignore into spans values (?, ?)", [(a, seq) for a in admitted])
                db.executemany(
                    "insert or replace into ids values (?, ?, ?, ?, ?, ?)",
                    [(t.id, t.ref, t.kind, t.region, t.sequence, t.mark) for t in named],
                )
            db.execute("update meta set value = ? where key = 'position'", (str(durable),))

    def close(self) -> None:
        self._writer.shutdown()
        self._reading.close()
        self._writing.close()

    # ------------------------------------------------------------------ looking up
    def named(self, ids: Sequence[str]) -> dict[str, EndedTask]:
        found: dict[str, EndedTask] = {}
        unknown: list[str] = []
        for name in ids:
            if (new := self._new.get(name)) is not None:
                found[name] = new[1]
            else:
                unknown.append(name)
        for at in range(0, len(unknown), LOOK_UP_AT_ONCE):
            some = unknown[at : at + LOOK_UP_AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._reading.execute(
                f"select id, ref, kind, region, sequence, mark from ids where id in ({marks})", some
            )
            for task_id, ref, kind, region, sequence, mark in rows:
                found[task_id] = EndedTask(ref, kind, region, sequence, task_id, mark)
        return found

    def by_ref(self, ref: int) -> EndedTask | None:
        """The newest end of this task: a redriven one has several."""
        for fed in reversed(self._fed):
            if (task := _ends(fed.entry).get(ref)) is not None:
                return task
        rows = self._reading.execute(
            "select settled from spans where admitted = ? order by settled desc", (ref >> 10,)
        )
        for (seq,) in rows.fetchall():
            if (task := self._settled(seq).get(ref)) is not None:
                return task
        return None

    def _settled(self, seq: int) -> dict[int, EndedTask]:
        """What a settled entry says, by ref; the last few are kept decoded."""
        known = self._decoded.get(seq)
        if known is None:
            (raw,) = self._reading.execute("select entry from settled where seq = ?", (seq,)).fetchone()
            entry = ledger_entry(raw)
            known = self._decoded[seq] = _ends(entry) if isinstance(entry, Settled) else {}
            while len(self._decoded) > ENTRIES_KEPT:
                self._decoded.popitem(last=False)
        return known


def _ends(entry: Settled) -> dict[int, EndedTask]:
    ends = {
        ref: EndedTask(ref, "ok", where.region, where.sequence) for where in entry.ok for ref in where.refs
    }
    ends.update((end.ref, EndedTask(end.ref, end.kind, end.region, end.sequence)) for end in entry.ended)
    return ends
