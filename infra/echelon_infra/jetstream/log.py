"""A log with one writer: the chain, and the wall that makes the writer the only one.

**The chain.** Each publish names its predecessor as the last sequence of the stream, with up to `width` in
flight. So they can only be stored in this order, each once, without gaps. A publish whose outcome is unknown
is compared with what is stored and, if it is not there, sent again unchanged: it cannot be stored twice.

**The wall.** A chain heals: one foreign message refuses one publish, and the next in flight fits again. So
who takes over first stores `width` + 1 markers in one atomic batch: more than an older writer can have in
flight. Whatever that one still sends names a sequence of the past and is refused for ever, on one server
and on three. Nothing rests on `Nats-Msg-Id`, which a server forgets.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from echelon_core.names import WRITER_HEADER
from echelon_infra.leader.lead import Deposed

from .client import Message, log
from .connection import Bus, Subscription
from .errors import ATOMIC_DISABLED, MESSAGE_NOT_FOUND, WRONG_LAST_SEQUENCE, ApiError, BrokerError
from .tasks import beside, end, set_within

_EXPECTED: Final = "Nats-Expected-Last-Sequence"
_SILENCE_S: Final = 1.0
"""Without a PubAck for so long, the outcome of what is in flight is unknown."""
_LOOK_S: Final = 0.25
_AT_ONCE: Final = 8
_SHRUNK_S: Final = 10.0


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """JetStream's answer to a publish. A refused one says `seq` 0 too: look at `error`, never at `seq`."""

    stream: str = ""
    seq: int = 0
    count: int = 0
    error: _Error | None = None


read_ack: Final = msgspec.json.Decoder(PubAck).decode


class _Publish(msgspec.Struct, gc=False):
    seq: int
    subject: str
    data: bytes


class Log:
    """One writer's end of a stream. `writer` must be new for each incarnation: by it the stored entries are
    known as ours.

    Call `take_over` once, then `append` and `flush`. When another has taken over, `fenced` is set and
    append, flush and settle raise Deposed.
    """

    def __init__(self, bus: Bus, stream: str, writer: str, *, width: int = 96) -> None:
        self.last = 0
        self.durable = 0
        self.on_durable: Callable[[int], None] = lambda seq: None
        self.fenced = asyncio.Event()
        self._bus = bus
        self._stream = stream
        self._writer = writer
        self._width = width
        self._waiting: deque[_Publish] = deque()
        self._flight: deque[_Publish] = deque()
        self._sent = 0  # our newest publish
        self._round = 0  # refusals of an earlier round speak of publishes that were sent again since
        self._refused = False
        self._objection = "no PubAck"
        self._heard = 0.0
        self._progress = asyncio.Event()
        self._doubt = asyncio.Event()
        self._inbox = bus.inbox()
        self._subscription: Subscription | None = None
        self._watch: asyncio.Task[None] | None = None

    async def take_over(self, subject: str, marker: bytes) -> int:
        """Store the wall, the first of whose markers bears `marker`; returns its last sequence.

        Repeated until it is stored, so when an answer is lost two walls may stand in the log.

        Raises:
            ApiError: the stream takes no atomic batches.
        """
        if self._watch is None:
            self._subscription = await self._bus.subscribe(f"{self._inbox}.*.*", self._on_ack)
            self._watch = beside(self._resolve_doubts(), died=lambda: self._fence("our own error"))
            self._bus.on_reconnect.append(self._doubt.set)
        while True:
            try:
                ack = await self._batch(subject, marker)
            except BrokerError as error:
                log.info("wall is tried again", stream=self._stream, error=str(error))
            else:
                if ack.error is None and ack.count == self._width + 1:
                    self.last = self.durable = self._sent = ack.seq
                    return ack.seq
                if ack.error is not None and ack.error.err_code == ATOMIC_DISABLED:
                    raise ApiError(ack.error.code, ack.error.err_code, ack.error.description)
                log.info("wall is tried again", stream=self._stream, error=str(ack.error))
            await asyncio.sleep(0.1)

    async def _batch(self, subject: str, marker: bytes) -> PubAck:
        batch, markers = uuid.uuid4().hex, self._width + 1
        for k in range(1, markers + 1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(k), WRITER_HEADER: self._writer}
            data = marker if k == 1 else b""
            if k < markers:
                self._bus.send(subject, data, headers=headers)
        headers["Nats-Batch-Commit"] = "1"
        return read_ack(await self._bus.request(subject, data, timeout_s=5.0, headers=headers))

    def append(self, subject: str, data: bytes) -> int:
        """Take the next place; returns its sequence. Sent by `flush`.

        Raises:
            Deposed: another writes this log.
        """
        if self.fenced.is_set():
            raise Deposed(self._stream)
        self.last += 1
        self._waiting.append(_Publish(self.last, subject, data))
        return self.last

    async def flush(self) -> None:
        """Send what was appended; waits only while `width` are in flight. Raises Deposed."""
        while True:
            self._send_waiting()
            if self.fenced.is_set():
                raise Deposed(self._stream)
            if not self._waiting:
                return
            self._progress.clear()
            await self._progress.wait()

    async def settle(self) -> None:
        """Wait until all that was appended is durable. Raises Deposed."""
        while True:
            await self.flush()
            if not self._flight:
                return
            self._progress.clear()
            await self._progress.wait()

    async def close(self) -> None:
        """Stop listening. What is in flight may or may not be stored: `settle` first."""
        if self._watch is not None:
            await end(self._watch)
            self._bus.on_reconnect.remove(self._doubt.set)
            self._watch = None
        if self._subscription is not None:
            await self._subscription.stop()
            self._subscription = None

    # ------------------------------------------------------------------ the chain
    def _send_waiting(self) -> None:
        while self._waiting and len(self._flight) < self._width:
            publish = self._waiting.popleft()
            if not self._flight:
                self._heard = time.monotonic()
            self._flight.append(publish)
            self._sent = publish.seq
            self._send(publish)

    def _send(self, publish: _Publish) -> None:
        if self._bus.is_connected:  # else it goes with the doubts, on the next connection
            self._bus.send(
                publish.subject,
                publish.data,
                reply=f"{self._inbox}.{publish.seq}.{self._round}",
                headers={_EXPECTED: str(publish.seq - 1), WRITER_HEADER: self._writer},
            )

    def _on_ack(self, message: Message) -> None:
        _, seq_text, round_text = message.subject.rsplit(".", 2)
        seq = int(seq_text)
        if not self._flight or seq < self._flight[0].seq or message.status:
            return
        ack = read_ack(message.data)
        if ack.error is not None:
            self._objection = ack.error.description
            if int(round_text) == self._round and ack.error.err_code == WRONG_LAST_SEQUENCE:
                self._refused = True
                self._doubt.set()
        elif not self._refused:  # after a refusal only the stored entries are believed
            self._confirm(seq)

    def _confirm(self, seq: int) -> None:
        """By the chain, what precedes a stored entry is stored."""
        self._heard = time.monotonic()
        flight = self._flight
        while flight and flight[0].seq <= seq:
            flight.popleft()
        self.durable = seq
        self._progress.set()
        self._send_waiting()
        self.on_durable(seq)

    # ------------------------------------------------------------------ unknown outcomes
    async def _resolve_doubts(self) -> None:
        shrunk_since = 0.0
        while not self.fenced.is_set():
            await set_within(self._doubt, _LOOK_S)
            in_doubt = self._doubt.is_set() or time.monotonic() - self._heard > _SILENCE_S
            self._doubt.clear()
            if not self._flight or not in_doubt or not self._bus.is_connected:
                continue
            try:
                whole = await self._resolve()
            except BrokerError:
                await asyncio.sleep(0.1)
                self._doubt.set()
                continue
            if whole:
                shrunk_since = 0.0
            elif not shrunk_since:
                shrunk_since = time.monotonic()
            elif time.monotonic() - shrunk_since > _SHRUNK_S:
                self._fence("the stream has lost what it had acknowledged")

    async def _resolve(self) -> bool:
        """Compare what is in flight with what is stored, send the rest again. False: the stream ends before
        what it had acknowledged (a replica that lags, or a loss)."""
        info = await self._bus.api(f"STREAM.INFO.{self._stream}", timeout_s=1.0)
        end = int(info["state"]["last_seq"])
        if end > self._sent:
            self._fence(f"it ends at {end}, beyond our newest entry {self._sent}")
            return True
        stored = [publish.seq for publish in self._flight if publish.seq <= end]
        for start in range(0, len(stored), _AT_ONCE):
            some = stored[start : start + _AT_ONCE]
            for seq, writer in zip(some, await asyncio.gather(*map(self._writer_of, some)), strict=True):
                # None: consumed already (a work queue). A wall would reach beyond our newest, so it was ours.
                if writer is not None and writer != self._writer:
                    self._fence(f"entry {seq} was written by {writer or 'somebody'}")
                    return True
            if self._flight and some[-1] >= self._flight[0].seq:
                self._confirm(some[-1])
        if end < self._sent:
            log.info("sent again", stream=self._stream, first=end + 1, why=self._objection)
        self._objection = "no PubAck"
        self._refused = False
        self._round += 1
        self._heard = time.monotonic()
        for publish in self._flight:
            self._send(publish)
        return end >= self.durable

    async def _writer_of(self, seq: int) -> str | None:
        """Who wrote this entry ("" if it does not say), or None if it is gone."""
        try:
            answer = await self._bus.api(f"STREAM.MSG.GET.{self._stream}", {"seq": seq}, timeout_s=1.0)
        except ApiError as error:
            if error.err_code == MESSAGE_NOT_FOUND:
                return None
            raise
        return stored_header(answer["message"], WRITER_HEADER)

    def _fence(self, why: str) -> None:
        log.warning("deposed", stream=self._stream, why=why)
        self.fenced.set()
        self._progress.set()


def stored_header(message: dict[str, Any], name: str) -> str:
    """A header of a message in JetStream's own shape, or ""."""
    for line in base64.b64decode(message.get("hdrs", "")).decode().split("\r\n"):
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""
