"""What ran, on its way to the region: durable first, acks after.

Items come encoded from the children and are joined, never opened. What comes while nothing is under way goes
at once; otherwise it waits up to 5 ms for company, so that a busy worker sends few messages and an idle one
loses no time. A batch is sent again, the same bytes, until the broker says that it is stored: a second copy
finds its runs closed and changes nothing, a lost one would be a task run twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from echelon.wire.child import Started, join
from echelon_core import names
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import NoResponders, Timeout
from echelon_infra.telemetry import logs
from echelon_worker.chores import Chores
from echelon_worker.held import Held, RunKey

log = logs.get("worker")

FLUSH_S: Final = 0.005
STARTS_S: Final = 0.25
UNDER_WAY: Final = 4
BATCH_BYTES: Final = 768 * 1024
PUBACK_S: Final = 1.0
CONGESTED_BYTES: Final = 32 << 20


class _PubAck(msgspec.Struct):
    error: msgspec.Raw | None = None


class _Key(msgspec.Struct, array_like=True, gc=False):
    ref: int
    run: int


_puback: Final = msgspec.json.Decoder(_PubAck).decode
_keys: Final = msgspec.msgpack.Decoder(list[_Key]).decode
_items: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def _array(count: int, items: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + items


def keys_of(count: int, items: bytes) -> list[RunKey]:
    """(ref, run) of concatenated Ran items. Opens them: not for the hot path."""
    return [(key.ref, key.run) for key in _keys(_array(count, items))]


def split(count: int, items: bytes, most: int = BATCH_BYTES) -> list[tuple[int, bytes]]:
    """The same items in pieces of at most `most` bytes, or of one item where that is larger."""
    if len(items) <= most:
        return [(count, items)]
    pieces: list[tuple[int, bytes]] = []
    piece: list[bytes] = []
    size = 0
    for raw in _items(_array(count, items)):
        item = bytes(raw)
        if piece and size + len(item) > most:
            pieces.append((len(piece), b"".join(piece)))
            piece, size = [], 0
        piece.append(item)
        size += len(item)
    pieces.append((len(piece), b"".join(piece)))
    return pieces


class _Batch:
    """What goes in one message. `helds` has a work message once for each piece of it that is in here."""

    __slots__ = ("bytes", "helds", "ran", "starts")

    def __init__(self) -> None:
        self.ran: list[tuple[int, bytes]] = []
        self.helds: list[Held] = []
        self.bytes = 0
        self.starts: list[Started] = []

    def runs(self) -> int:
        return sum(count for count, _ in self.ran)


class Outcomes:
    """Collects, joins, publishes. `on_settled` is told which work messages may be acked now."""

    def __init__(
        self, bus: Bus, region: str, worker: str, chores: Chores, on_settled: Callable[[Sequence[Held]], None]
    ) -> None:
        self._bus = bus
        self._subject = names.outcome_subject(region)
        self._worker = worker
        self._chores = chores
        self._on_settled = on_settled
        self._open = _Batch()
        self._closed: deque[_Batch] = deque()
        self._starts: dict[RunKey, Started] = {}
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._starts_timer: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._unstored_bytes = 0

    @property
    def congested(self) -> bool:
        """So much waits to be stored that no more work should be taken."""
        return self._unstored_bytes > CONGESTED_BYTES

    def add(self, held: Held, count: int, items: bytes) -> None:
        """These runs have ended. Set `held.done` before the last call, so that the ack can follow."""
        if not count:
            if held.settled:
                self._on_settled((held,))
            return
        for number, piece in split(count, items):
            if self._open.bytes and self._open.bytes + len(piece) > BATCH_BYTES:
                self._close()
            batch = self._open
            batch.ran.append((number, piece))
            batch.helds.append(held)
            batch.bytes += len(piece)
            held.beside += 1
        self._unstored_bytes += len(items)
        self._idle.clear()
        self._soon()

    def start(self, starts: Sequence[Started]) -> None:
        """These runs have begun and last."""
        for begun in starts:
            self._starts[(begun.ref, begun.run)] = begun
        if self._starts_timer is None:
            self._starts_timer = asyncio.get_running_loop().call_later(STARTS_S, self._starts_due)

    def ended(self, key: RunKey) -> None:
        """Its end is in: that it began is no news any more."""
        self._starts.pop(key, None)

    async def drain(self) -> None:
        """Until everything is stored."""
        await self._idle.wait()

    # ------------------------------------------------------------------ when to send
    def _soon(self) -> None:
        """At once if nothing is under way, else 5 ms after the last; with all ways taken, after one ends."""
        if self._timer is not None or self._under_way >= UNDER_WAY:
            return
        loop = asyncio.get_running_loop()
        due = self._sent_at + FLUSH_S if self._under_way else 0.0
        self._timer = loop.call_at(max(due, loop.time()), self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._under_way < UNDER_WAY and self._open.ran:
            self._close()
        self._pump()

    def _starts_due(self) -> None:
        self._starts_timer = None
        if self._starts:
            self._close()
            self._pump()

    def _close(self) -> None:
        batch, self._open = self._open, _Batch()
        batch.starts, self._starts = list(self._starts.values()), {}
        self._closed.append(batch)
        self._idle.clear()

    def _pump(self) -> None:
        while self._closed and self._under_way < UNDER_WAY:
            batch = self._closed.popleft()
            self._under_way += 1
            self._sent_at = asyncio.get_running_loop().time()
            self._chores.start(self._publish(batch))

    async def _publish(self, batch: _Batch) -> None:
        data = join(self._worker, batch.ran, batch.starts)
        failures = 0
        while (problem := await self._store(data)) is not None:
            failures += 1
            if failures in (1, 10) or failures % 100 == 0:
                log.warning("outcomes not stored yet", runs=batch.runs(), failures=failures, error=problem)
            await asyncio.sleep(min(1.0, 0.05 * 2 ** min(failures, 10)))
        self._under_way -= 1
        self._unstored_bytes -= batch.bytes
        settled: list[Held] = []
        for held in batch.helds:
            held.beside -= 1
            if held.settled:
                settled.append(held)
        self._on_settled(settled)
        self._pump()
        if self._open.ran:
            self._soon()
        elif not self._under_way:
            self._idle.set()

    async def _store(self, data: bytes) -> str | None:
        """What went wrong, or None: it is stored."""
        try:
            ack = _puback(await self._bus.request(self._subject, data, timeout_s=PUBACK_S))
        except (Timeout, NoResponders, msgspec.DecodeError) as error:
            return str(error)
        return None if ack.error is None else bytes(ack.error).decode()
