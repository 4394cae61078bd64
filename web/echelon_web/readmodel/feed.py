"""From the streams into the file: batches, what must wait, and when it is written.

Everything that arrived is applied in memory within 10 ms when it is quiet, within 250 ms under load, and
written when somebody wants to read, at the latest after two seconds: most tasks of a busy Echelon begin and
end in between and so are written once. How far each stream was read is part of the same transaction.

What a region says of a delegation that the ledger has not told of yet waits in its lane (protocol.md §3).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from echelon.wire.child import outcomes as decode_outcomes
from echelon_core import names
from echelon_core.runs import delegation_of
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.tail import Entry, Tail
from echelon_infra.telemetry import logs
from echelon_web.readmodel.project import Projection
from echelon_web.readmodel.rows import Delegated, Verdicts, ledger_entry, refs_of, region_entry
from echelon_web.readmodel.store import Store

log = logs.get("web")

QUIET_S: Final = 0.010
BUSY_S: Final = 0.250
BUSY_ENTRIES: Final = 40
"""More than this in one batch: gather longer, for fewer and larger batches cost less."""
SLICE_S: Final = 0.004
"""Longer than this the loop is not kept from answering requests."""
WRITE_AFTER_S: Final = 2.0
WRITE_ROWS: Final = 32_768
READ_AGE_S: Final = 0.2
"""A read that asks for no position may see the file as it was this long ago."""
ROWS_KEPT: Final = 100_000
QUEUE_ENTRIES: Final = 512
"""A lane with more asks for no more until half of them are applied."""


class Lane:
    """One stream: what arrived and was not applied, and how far it was."""

    def __init__(self, stream: str, region: str = "", verdicts: bool = False) -> None:
        self.stream = stream
        self.region = region
        self.verdicts = verdicts
        self.created = ""
        self.position = 0
        self.waits = 0  # the ledger position that the first of the queue waits for
        self.queue: deque[Entry] = deque()
        self.held = False
        self.tail: Tail | None = None

    def hold(self) -> None:
        """Ask the stream for more, or not, by what is still to be applied."""
        held = len(self.queue) > (QUEUE_ENTRIES // 2 if self.held else QUEUE_ENTRIES)
        if held is not self.held and self.tail is not None:
            self.held = held
            self.tail.hold(held)


class Feed:
    """Keeps a `Store` up to date. All of it runs in one event loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.projection = Projection(store.counts())
        self.ledger = Lane(names.LEDGER)
        self.lanes: dict[str, tuple[Lane, Lane]] = {}
        self.written = 0  # the ledger position of the file
        self.version = 0  # grows with every write
        self.current = asyncio.Event()  # the ledger as it was at the start has been read
        self._behind = -1
        self.newest_at = 0.0  # stored time of the last entry applied
        self.on_region: Callable[[str], None] = lambda region: None
        self._bus: Bus | None = None
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._moved = asyncio.Event()
        self._readers: list[tuple[int, asyncio.Future[None]]] = []
        self._dirty_at = 0.0  # since when something is not written, 0 = all is
        self._written_at = 0.0
        self._opening: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------------------------- the lanes
    def open(self, bus: Bus) -> None:
        """Follow the ledger from where the file ends, as soon as it exists."""
        self._bus = bus
        self._opening.add(asyncio.create_task(self._follow(self.ledger, ledger=True)))

    def watch(self, region: str) -> None:
        """Follow this region too, as soon as its streams exist."""
        if region in self.lanes or self._bus is None:
            return
        pair = Lane(names.outcomes(region), region), Lane(names.region_log(region), region, verdicts=True)
        self.lanes[region] = pair
        self.on_region(region)
        for lane in pair:
            self._opening.add(asyncio.create_task(self._follow(lane)))

    async def close(self) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for lane in self._all():
            if lane.tail is not None:
                await lane.tail.close()

    def _all(self) -> Iterable[Lane]:
        yield self.ledger
        for pair in self.lanes.values():
            yield from pair

    async def _identify(self, lane: Lane) -> int:
        """Where to begin: after the last sequence read. Returns the stream's last sequence."""
        assert self._bus is not None
        told = False
        while True:
            try:
                info = await self._bus.api(f"STREAM.INFO.{lane.stream}")
                break
            except BrokerError as error:
                if not told:
                    log.info("waiting for stream", stream=lane.stream, error=str(error))
                    told = True
                await asyncio.sleep(0.3)
        last, lane.created = int(info["state"]["last_seq"]), str(info["created"])
        created, lane.position = self.store.positions().get(lane.stream, (lane.created, 0))
        if created != lane.created or lane.position > last:
            log.warning("the streams are not those of the read model: it starts anew", stream=lane.stream)
            self._start_anew()
        if lane is self.ledger:
            self.written = lane.position
        return last

    def _start_anew(self) -> None:
        self.store.start_anew()
        self.projection = Projection({})
        for lane in self._all():
            lane.position = 0

    async def _follow(self, lane: Lane, *, ledger: bool = False) -> None:
        assert self._bus is not None
        last = await self._identify(lane)

        def deliver(entries: list[Entry]) -> None:
            lane.queue.extend(entries)
            lane.hold()
            self._wake.set()

        lane.tail = Tail(self._bus, lane.stream, after=lane.position, deliver=deliver)
        await lane.tail.open()
        if ledger:
            self._behind = last
            self._wake.set()

    # ------------------------------------------------------------------------------ for readers
    async def fresh(self, position: int = 0, timeout_s: float = 1.0) -> bool:
        """Wait until the file tells of this ledger position and is not older than `READ_AGE_S`.

        False: it took longer than `timeout_s`, or the file is still being made (`current`).
        """
        stale = self._dirty_at and time.monotonic() - self._written_at > READ_AGE_S
        if self.written >= position and not stale and self.current.is_set():
            return True
        done = asyncio.get_running_loop().create_future()
        self._readers.append((position, done))
        self._wake.set()
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            return False
        return True

    async def applied(self, position: int, timeout_s: float = 1.0) -> bool:
        """Wait until the rows in memory tell of this ledger position; they need not be written for that."""
        deadline = time.monotonic() + timeout_s
        while self.ledger.position < position:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._moved.clear()
            try:
                async with asyncio.timeout(left):
                    await self._moved.wait()
            except TimeoutError:
                return False
        return True

    def _answer(self) -> None:
        waiting = []
        current = self.current.is_set()
        for position, done in self._readers:
            if (self.written < position or not current) and not done.done():
                waiting.append((position, done))
            elif not done.done():
                done.set_result(None)
        self._readers = waiting

    # --------------------------------------------------------------------------------- the loop
    async def run(self) -> None:
        """Apply and write until cancelled; what was applied is written at the end.

        Raises:
            sqlite3.Error: the file is damaged or the disk is full; it was emptied.
        """
        gather_s = QUIET_S
        try:
            while True:
                await self._arrival()
                if gather_s > QUIET_S:
                    await self._pause(gather_s)
                applied = await self._apply()
                busy = applied > BUSY_ENTRIES
                gather_s = min(BUSY_S, gather_s * 2) if busy else max(QUIET_S, gather_s / 2)
                if self._must_write():
                    await self._write()
                elif not busy:
                    await self._pause(QUIET_S)
        except sqlite3.Error as error:
            log.error("the read model is damaged: the next start makes it anew", error=str(error))
            self._dirty_at = 0.0
            self.store.start_anew()
            raise
        finally:
            if self._dirty_at:
                self._write_at_once()

    async def _arrival(self) -> None:
        if not self._wake.is_set() and self._dirty_at:
            rest = WRITE_AFTER_S - (time.monotonic() - self._dirty_at)
            if rest > 0:
                timer = asyncio.get_running_loop().call_later(rest, self._wake.set)
                await self._wake.wait()
                timer.cancel()
        else:
            await self._wake.wait()
        self._wake.clear()

    async def _pause(self, pause_s: float) -> None:
        """Let more arrive, unless a reader waits."""
        if not self._hurry.is_set():
            timer = asyncio.get_running_loop().call_later(pause_s, self._hurry.set)
            await self._hurry.wait()
            timer.cancel()
        self._hurry.clear()
        if self._readers:
            self._hurry.set()

    def _must_write(self) -> bool:
        if self._readers:
            return True
        if not self._dirty_at:
            return False
        projection = self.projection
        return time.monotonic() - self._dirty_at >= WRITE_AFTER_S or projection.unwritten() >= WRITE_ROWS

    async def _apply(self) -> int:
        """Everything that arrived and need not wait. Returns how many entries."""
        applied, began = 0, time.monotonic()
        moved = True
        while moved:
            moved = False
            for lane in list(self._all()):
                while lane.queue and self._next(lane):
                    moved = True
                    applied += 1
                    if time.monotonic() - began > SLICE_S:
                        await asyncio.sleep(0)
                        began = time.monotonic()
                lane.hold()
        if applied:
            self._moved.set()
            self._dirty_at = self._dirty_at or time.monotonic()
        if not self.current.is_set() and 0 <= self._behind <= self.ledger.position:
            self.current.set()
            log.info("read model is current", position=self.ledger.position)
        return applied

    def _next(self, lane: Lane) -> bool:
        """Apply the first of the queue, unless the ledger must come first."""
        if lane is not self.ledger and lane.waits > self.ledger.position:
            return False
        entry = lane.queue[0]
        if entry.data and not self._take(lane, entry):
            return False
        lane.queue.popleft()
        lane.position = entry.seq
        lane.waits = 0
        self.newest_at = max(self.newest_at, entry.at)
        return True

    def _take(self, lane: Lane, entry: Entry) -> bool:
        projection = self.projection
        try:
            if lane is self.ledger:
                told: Any = ledger_entry(entry.data)
                self._fetch(refs_of(told))
                projection.ledger(entry.seq, told)
                if isinstance(told, Delegated) and told.region not in self.lanes:
                    self.watch(told.region)
            elif lane.verdicts:
                told = region_entry(entry.data)
                if isinstance(told, Verdicts):
                    if told.ledger > self.ledger.position:
                        lane.waits = told.ledger
                        return False
                    if told.again or told.ended:
                        self._fetch([*(again.ref for again in told.again), *(end.ref for end in told.ended)])
                        projection.verdicts(lane.region, told)
            else:
                told = decode_outcomes(entry.data)
                waits = delegation_of(max((run.run for run in (*told.ran, *told.starts)), default=0))
                if waits > self.ledger.position:
                    lane.waits = waits
                    return False
                self._fetch(run.ref for run in (*told.ran, *told.starts))
                projection.outcomes(lane.region, entry.seq, told)
        except msgspec.DecodeError as error:
            log.error(
                "an entry cannot be read and is left out", stream=lane.stream, seq=entry.seq, error=str(error)
            )
        return True

    def _fetch(self, refs: Iterable[int]) -> None:
        projection = self.projection
        if missing := projection.wanted(refs):
            projection.rows.update(self.store.rows(missing))

    # ------------------------------------------------------------------------------- the writes
    async def _write(self) -> None:
        if self._dirty_at:
            writes = self.projection.take()
            steps = self.store.write(writes, self._positions())
            began = time.monotonic()
            for _ in steps:
                if time.monotonic() - began > SLICE_S:
                    await asyncio.sleep(0)
                    began = time.monotonic()
            self._has_written()
        self._answer()

    def _write_at_once(self) -> None:
        for _ in self.store.write(self.projection.take(), self._positions()):
            pass
        self._has_written()

    def _positions(self) -> dict[str, tuple[str, int]]:
        return {lane.stream: (lane.created, lane.position) for lane in self._all() if lane.created}

    def _has_written(self) -> None:
        self.written = self.ledger.position
        self.version += 1
        self._dirty_at = 0.0
        self._written_at = time.monotonic()
        self.projection.shrink(ROWS_KEPT)
