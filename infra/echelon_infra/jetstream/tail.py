"""Reading a stream: a tail that follows it, and single messages by sequence.

A tail is an ephemeral consumer without acks, read by long pulls. The server may forget it at any time (a
restart, silence); then another is made from the next sequence. Where we are is known here alone, so nothing
is lost or repeated: a gap in the consumer's own numbering, or silence beyond its heartbeats, reopens it.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from .client import Message, log
from .connection import Bus, Subscription
from .errors import MESSAGE_NOT_FOUND, ApiError, BrokerError
from .tasks import beside, end, set_within
from .topology import last_of_subject, last_sequence, retrying

_NS: Final = 1_000_000_000
_BATCH: Final = 256
_HEARTBEAT_S: Final = 0.5
_SILENCE_S: Final = 1.3
_EXPIRES_S: Final = 30
_FORGOTTEN_S: Final = 10
_LOOK_S: Final = 0.2
_IDLE_S: Final = 1.0
_PATIENCE_S: Final = 0.02
"""Who waits for a position that nothing brings nearer looks whether anything is still to come."""

_json: Final = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    seq: int
    subject: str
    data: bytes
    at: float  # when it was stored, seconds since 1970


class Tail:
    """Follows `stream` from `after` (exclusive) on; hands over what comes in batches, in order, each once.

    `position` is the last sequence delivered, or passed over because nothing up to there matches `filters`.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        *,
        after: int,
        filters: Sequence[str] = (),
        deliver: Callable[[list[Entry]], None],
    ) -> None:
        self.position = after
        self._bus = bus
        self._stream = stream
        self._filters = list(filters)
        self._deliver = deliver
        self._batch: list[Entry] = []
        self._next_subject = ""
        self._asked = 0  # messages that open pulls may still bring
        self._numbered = 0  # the consumer's own number of the last message
        self._heard = 0.0
        self._held = False
        self._moved = 0.0
        self._checked = 0.0
        self._reopen = asyncio.Event()
        self._advanced = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises ApiError if there is no such stream; waits while the server is away."""
        await retrying(self._consume)
        self._watch = beside(self._keep_open(), died=lambda: None)
        self._bus.on_reconnect.append(self._reopen.set)

    async def close(self) -> None:
        if self._watch is not None:
            await end(self._watch)
            self._bus.on_reconnect.remove(self._reopen.set)
            self._watch = None
        if self._subscription is not None:
            await self._subscription.stop()
            self._subscription = None

    async def passed(self, seq: int, timeout_s: float) -> bool:
        """Wait until everything up to `seq` was delivered; False if that takes longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.position < seq:
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self._advanced.clear()
            if not await set_within(self._advanced, min(left, _PATIENCE_S)):
                await self._pass_over()
        return True

    def hold(self, held: bool) -> None:
        """While held, no more is asked for: who reads cannot keep up."""
        self._held = held
        if not held:
            self._pull()

    # ------------------------------------------------------------------ the consumer
    def _start(self) -> dict[str, object]:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, self.position + 1)}

    async def _consume(self) -> None:
        if self._subscription is not None:
            await self._subscription.stop()
        self._flush()
        config: dict[str, object] = {
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGOTTEN_S * _NS,
            "filter_subjects": self._filters,
            **self._start(),
        }
        created = await self._bus.api(
            f"CONSUMER.CREATE.{self._stream}", {"stream_name": self._stream, "config": config}
        )
        self._created(created)
        self._next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{created['name']}"
        self._inbox = self._bus.inbox()
        self._asked = self._numbered = 0
        self._heard = time.monotonic()
        self._subscription = await self._bus.subscribe(self._inbox, self._on_message)
        self._pull()

    def _created(self, answer: dict[str, Any]) -> None:
        """A consumer was made; what it will bring begins after this."""

    def _pull(self) -> None:
        if self._held or self._asked > _BATCH // 2 or not self._bus.is_connected:
            return
        wanted = _BATCH - self._asked
        self._asked += wanted
        body = {"batch": wanted, "expires": _EXPIRES_S * _NS, "idle_heartbeat": int(_HEARTBEAT_S * _NS)}
        self._bus.send(self._next_subject, _json(body), reply=self._inbox)

    def _on_message(self, message: Message) -> None:
        self._heard = time.monotonic()
        if message.status:
            self._on_status(message)
            return
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>.<pending>
        _, seq_text, number_text, at_ns, _ = message.reply.rsplit(".", 4)
        number = int(number_text)
        if number != self._numbered + 1:
            self._reopen.set()
            return
        self._numbered = number
        self._asked -= 1
        if not self._batch:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch.append(Entry(int(seq_text), message.subject, message.data, int(at_ns) / _NS))
        self._pull()

    def _on_status(self, message: Message) -> None:
        if message.status == "100":
            return
        if message.status in ("404", "408"):
            left = message.headers.get("Nats-Pending-Messages", "") if message.headers else ""
            self._asked = max(0, self._asked - int(left or self._asked))
            self._pull()
        else:  # 409: the consumer or its leader is gone; 503: the server starts
            self._reopen.set()

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self.position = batch[-1].seq
            self._moved = time.monotonic()
            self._advanced.set()
            self._deliver(batch)

    async def _keep_open(self) -> None:
        while True:
            await set_within(self._reopen, _LOOK_S)
            if not self._bus.is_connected:
                continue
            silent = self._asked > 0 and time.monotonic() - self._heard > _SILENCE_S
            if self._reopen.is_set() or silent:
                self._reopen.clear()
                try:
                    await self._consume()
                except BrokerError as error:
                    log.info("tail is opened again", stream=self._stream, error=str(error))
                    self._reopen.set()
                    await asyncio.sleep(0.1)
            elif self._filters and time.monotonic() - max(self._moved, self._checked) > _IDLE_S:
                await self._pass_over()

    async def _pass_over(self) -> None:
        """Move `position` over what does not match.

        First the stream's end, then the newest message of each filter, both from the stream's leader: if we
        have them all, nothing up to that end is still to come. (A consumer's own "none pending" would do on
        one server; on three it speaks of a replica that may lag.)
        """
        self._checked = time.monotonic()
        try:
            end = await last_sequence(self._bus, self._stream)
            for subject in self._filters or [">"]:
                newest = await last_of_subject(self._bus, self._stream, subject)
                if newest is not None and newest["seq"] > self.position:
                    return
        except BrokerError:
            return
        if end > self.position:
            self.position = end
            self._advanced.set()


class _LastTail(Tail):
    """The last message of each subject, then all that comes. Opened anew, it begins with the last ones again
    and reports subjects that vanished meanwhile (a lease whose marker came and went) as empty messages."""

    def __init__(self, bus: Bus, stream: str, filters: Sequence[str], deliver: Callable[[list[Entry]], None]):
        super().__init__(bus, stream, after=0, filters=filters, deliver=self._sift)
        self._tell = deliver
        self._alive: dict[str, int] = {}
        self._unseen: set[str] = set()
        self._initial = 0

    def _start(self) -> dict[str, object]:
        return {"deliver_policy": "last_per_subject"}

    def _created(self, answer: dict[str, Any]) -> None:
        self._unseen = set(self._alive)
        self._initial = int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])
        if not self._initial:
            self._vanished()

    def _sift(self, batch: list[Entry]) -> None:
        told = []
        for entry in batch:
            self._unseen.discard(entry.subject)
            if entry.seq <= self._alive.get(entry.subject, 0):
                continue
            if entry.data:
                self._alive[entry.subject] = entry.seq
            else:
                self._alive.pop(entry.subject, None)
            told.append(entry)
        if told:
            self._tell(told)
        if self._unseen and self._numbered >= self._initial:
            self._vanished()

    def _vanished(self) -> None:
        gone, self._unseen = self._unseen, set()
        for subject in gone:
            self._alive.pop(subject, None)
        if gone:
            self._tell([Entry(self.position, subject, b"", time.time()) for subject in sorted(gone)])

    async def _pass_over(self) -> None:
        """Positions mean nothing here."""


async def watch_last(
    bus: Bus, stream: str, filters: Sequence[str], deliver: Callable[[list[Entry]], None]
) -> Tail:
    """The last message of each subject, then live. Deleted and expired ones come with empty data.

    Raises:
        ApiError: there is no such stream.
    """
    tail = _LastTail(bus, stream, filters, deliver)
    await tail.open()
    return tail


async def get(bus: Bus, stream: str, seq: int) -> Entry | None:
    """One message by its sequence, or None if it is gone.

    Raises:
        Timeout, NoResponders: the server is away.
    """
    message = await bus.call(f"$JS.API.DIRECT.GET.{stream}", b'{"seq":%d}' % seq, timeout_s=2.0)
    if not message.status and message.headers is not None:
        return _direct(message)
    try:  # a replica may lag; the stream's leader knows
        answer = await bus.api(f"STREAM.MSG.GET.{stream}", {"seq": seq})
    except ApiError as error:
        if error.err_code == MESSAGE_NOT_FOUND:
            return None
        raise
    return stored(answer["message"])


async def read(
    bus: Bus, stream: str, *, after: int, upto: int, filters: Sequence[str] = ()
) -> AsyncIterator[list[Entry]]:
    """All that is stored between `after` (exclusive) and `upto` (inclusive), in batches. Of work queues too.

    Raises:
        ApiError: there is no such stream. Timeout, NoResponders: the server was away for 30 s.
    """
    info = await retrying(lambda: bus.api(f"STREAM.INFO.{stream}"))
    upto = min(upto, int(info["state"]["last_seq"]))
    if info["config"]["retention"] == "workqueue":
        async for batch in _read_queue(bus, stream, after, upto, filters):
            yield batch
        return
    batches: deque[list[Entry]] = deque()
    tail = Tail(bus, stream, after=after, filters=filters, deliver=batches.append)
    await tail.open()
    try:
        while True:
            ended = await tail.passed(min(upto, tail.position + 1), 1.0) and tail.position >= upto
            while batches:
                tail.hold(True)
                if wanted := [entry for entry in batches.popleft() if entry.seq <= upto]:
                    yield wanted
            tail.hold(False)
            if ended:
                return
    finally:
        await tail.close()


async def _read_queue(
    bus: Bus, stream: str, after: int, upto: int, filters: Sequence[str]
) -> AsyncIterator[list[Entry]]:
    """A work queue refuses a second consumer, so its leader is asked for one message after the other."""
    found: list[Entry] = []
    for subject in filters or [">"]:
        seq = after
        while seq < upto:
            body = {"seq": seq + 1, "next_by_subj": subject}
            try:
                answer = await retrying(lambda body=body: bus.api(f"STREAM.MSG.GET.{stream}", body))  # type: ignore[misc]
            except ApiError as error:
                if error.err_code != MESSAGE_NOT_FOUND:
                    raise
                break
            entry = stored(answer["message"])
            seq = entry.seq
            if seq <= upto:
                found.append(entry)
    found.sort()
    for start in range(0, len(found), _BATCH):
        yield found[start : start + _BATCH]


def stored(message: dict[str, Any]) -> Entry:
    data = base64.b64decode(message.get("data", ""))
    return Entry(message["seq"], message["subject"], data, _seconds(message["time"]))


def _direct(message: Message) -> Entry:
    headers = message.headers or {}
    at = _seconds(headers["Nats-Time-Stamp"])
    return Entry(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, at)


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
