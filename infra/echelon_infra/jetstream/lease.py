"""A lease: a key that lives for `ttl_s` seconds, kept alive by whoever created it.

Every write is a compare-and-set on the key's last sequence and carries its TTL anew (nats-py's `update` drops
it). An expired or deleted key leaves a marker: an empty message that must be compared against, not a value.
Each write bears a nonce, so one whose answer was lost is recognised as ours.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from echelon_core.names import LEASES_STREAM, WRITER_HEADER, lease_subject

from .client import log
from .connection import Bus
from .errors import WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_IN_FLIGHT, BrokerError, NoResponders, Timeout
from .log import read_ack, stored_header
from .tail import stored
from .tasks import beside, end
from .topology import last_of_subject, retrying

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_TOKEN: Final = "Echelon-Token"
_SENT: Final = "Echelon-Sent"  # on the writer's own monotonic clock
_LOOK_S: Final = 0.2
_ANSWER_S: Final = 1.0


class Lease:
    """`value` is asked for at each renewal: what the holder tells the world with its lease."""

    def __init__(self, bus: Bus, key: str, *, ttl_s: int, renew_s: float, value: Callable[[], bytes]) -> None:
        self.revision = 0  # the fencing token: it grows with every acquisition, and stays while we hold
        self.lost = asyncio.Event()
        self._bus = bus
        self._key = key
        self._ttl_s = ttl_s
        self._renew_s = renew_s
        self._value = value
        self._nonce = uuid.uuid4().hex
        self._sequence = 0  # of our last write
        self._until = 0.0  # monotonic: we hold it at least until then
        self._writing = asyncio.Lock()
        self._renewals: asyncio.Task[None] | None = None

    async def acquire(self, *, mine: Callable[[bytes], bool] = lambda value: False) -> int:
        """Wait until the key is free or expired and take it; returns `revision`.

        `mine(value)` says whether the present holder is our own former self, from whom it is taken at once.
        """
        while True:
            try:
                holder = await retrying(lambda: last_of_subject(self._bus, LEASES_STREAM, self._subject))
                if holder is None:
                    taken = await self._write(0, token=0)
                elif is_marker(holder) or self._is_ours(holder) or mine(stored(holder).data):
                    # What is there may be our own, unheard or of before an outage: about to expire, anyway.
                    taken = await self._write(int(holder["seq"]), token=0)
                else:
                    taken = 0
            except (Timeout, NoResponders):
                taken = 0
            if taken:
                self.revision = taken
                self.lost.clear()
                return taken
            await asyncio.sleep(_LOOK_S)

    def start(self) -> None:
        """Renew in the background. `lost` is set when another holds the key, or the TTL passed unrenewed."""
        self._renewals = beside(self._renew_always(), died=self.lost.set)

    async def renew_now(self) -> None:
        """Renew, with the present value. An answer that does not come is no loss: the background goes on."""
        async with self._writing:
            if self.lost.is_set() or not self._sequence:
                return
            try:
                if not await self._write(self._sequence, token=self.revision):
                    await self._compare()
            except BrokerError as error:
                log.info("renewal failed", lease=self._key, error=str(error))

    async def release(self) -> None:
        """Stop renewing and delete the key; watchers see it at once."""
        if self._renewals is not None:
            await end(self._renewals)
            self._renewals = None
        if not self._sequence or self.lost.is_set():
            return
        try:
            if not await delete(self._bus, self._key, self._sequence):
                await self._compare()  # a renewal was stored unheard, or another holds it
                if not self.lost.is_set():
                    await delete(self._bus, self._key, self._sequence)
        except BrokerError as error:
            log.info("left to expire", lease=self._key, error=str(error))
        self._sequence = 0

    @property
    def _subject(self) -> str:
        return lease_subject(self._key)

    async def _renew_always(self) -> None:
        pause_s = self._renew_s
        while not self.lost.is_set():
            await asyncio.sleep(pause_s)
            before = self._until
            await self.renew_now()
            left_s = self._until - time.monotonic()
            pause_s = min(self._renew_s if self._until > before else _LOOK_S, self._renew_s, max(0.0, left_s))
            if left_s <= 0:
                self._lose("its time passed without a renewal")

    async def _write(self, expected: int, *, token: int) -> int:
        """Compare and set; returns the sequence, or 0 if another was first.

        Raises:
            Timeout, NoResponders: the outcome is unknown.
        """
        sent = time.monotonic()
        headers = {_EXPECTED: str(expected), "Nats-TTL": str(self._ttl_s), WRITER_HEADER: self._nonce}
        headers[_SENT] = repr(sent)
        if token:
            headers[_TOKEN] = str(token)
        left_s = self._until - sent if token else _ANSWER_S
        timeout_s = max(0.01, min(_ANSWER_S, self._renew_s, left_s))
        answer = await self._bus.request(self._subject, self._value(), timeout_s=timeout_s, headers=headers)
        ack = read_ack(answer)
        if ack.error is None:
            self._held(ack.seq, sent)
            return ack.seq
        if ack.error.err_code not in (WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_IN_FLIGHT):
            raise Timeout(f"{self._key}: {ack.error.description}")
        return 0

    async def _compare(self) -> None:
        """Our renewal was refused: because an earlier one was stored unheard, or because another holds it."""
        holder = await last_of_subject(self._bus, LEASES_STREAM, self._subject)
        if holder is not None and self._is_ours(holder):
            self._held(int(holder["seq"]), float(stored_header(holder, _SENT)))
        elif holder is None or is_marker(holder):
            self._lose("it expired")
        else:
            self._lose("another holds it")

    def _is_ours(self, message: dict[str, Any]) -> bool:
        return stored_header(message, WRITER_HEADER) == self._nonce

    def _held(self, sequence: int, sent: float) -> None:
        self._sequence = sequence
        self._until = sent + self._ttl_s

    def _lose(self, why: str) -> None:
        log.warning("lease lost", lease=self._key, why=why)
        self.lost.set()


def is_marker(message: dict[str, Any]) -> bool:
    """Is this stored message the trace of an expired or deleted key?"""
    return bool(stored_header(message, "Nats-Marker-Reason") or stored_header(message, "KV-Operation"))


async def read_lease(bus: Bus, key: str) -> tuple[bytes, int] | None:
    """The value and the fencing token (`Lease.revision`) of whoever holds the key, or None.

    Raises:
        Timeout, NoResponders: JetStream was away for 30 s.
    """
    holder = await retrying(lambda: last_of_subject(bus, LEASES_STREAM, lease_subject(key)))
    if holder is None or is_marker(holder):
        return None
    return stored(holder).data, int(stored_header(holder, _TOKEN) or holder["seq"])


async def revoke(bus: Bus, key: str, token: int) -> bool:
    """Take the lease from the holder of this fencing token; False if it renewed meanwhile or is gone anyway.

    Raises:
        Timeout, NoResponders: the outcome is unknown.
    """
    holder = await last_of_subject(bus, LEASES_STREAM, lease_subject(key))
    if holder is None or is_marker(holder) or int(stored_header(holder, _TOKEN) or holder["seq"]) != token:
        return False
    return await delete(bus, key, int(holder["seq"]))


async def delete(bus: Bus, key: str, sequence: int) -> bool:
    """Delete the key if this is still its last write. What remains is a marker, for a minute.

    Raises:
        Timeout, NoResponders: the outcome is unknown.
    """
    headers = {"KV-Operation": "DEL", "Nats-TTL": "60", _EXPECTED: str(sequence)}
    answer = await bus.request(lease_subject(key), b"", timeout_s=1.0, headers=headers)
    return read_ack(answer).error is None
