"""Long-lived raw pulls with credit.

A worker says how many messages it could take; that many are asked for, and the server hands them over the
moment they exist. What an open pull may still bring is counted in `open`, so credit is never exceeded. When
nothing is heard from a pull (the server was killed, the consumer made anew) a fresh inbox makes every older
pull void and the same credit is asked for again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from .client import Message, log
from .connection import Bus, Subscription
from .errors import BrokerError
from .tasks import beside, end, set_within

_NS: Final = 1_000_000_000
_HEARTBEAT_S: Final = 1.0
_SILENCE_S: Final = 2.5
_LOOK_S: Final = 0.2
_IDLE_S: Final = 0.05

_json: Final = msgspec.json.Encoder().encode


class Delivery(NamedTuple):
    seq: int
    delivered_count: int
    stored_at: float  # seconds since 1970
    subject: str
    data: bytes
    reply: str


class Puller:
    """Pulls from one durable consumer and hands over each Delivery inline."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        deliver: Callable[[Delivery], None],
        *,
        expires_s: float = 10.0,
    ) -> None:
        self.open = 0
        self._bus = bus
        self._deliver = deliver
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._expires_ns = int(expires_s * _NS)
        self._wanted = 0
        self._asking = False
        self._last = 0.0
        self._heard = 0.0
        self._surplus_since = 0.0
        self._reset = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Something is asked for, and for 50 ms nothing has come: the queue is empty for us."""
        return self.open > 0 and time.monotonic() - self._last > _IDLE_S

    async def start(self) -> None:
        await self._fresh()
        self._bus.on_reconnect.append(self._reset.set)
        self._watch = beside(self._keep_open(), died=lambda: None)

    async def stop(self) -> None:
        """What was under way still arrives while this runs; afterwards nothing more does."""
        self._wanted = 0
        if self._watch is not None:
            await end(self._watch)
            self._bus.on_reconnect.remove(self._reset.set)
            self._watch = None
        await self._void()

    def want(self, messages: int) -> None:
        """Let at most `messages` be open. Less than before takes effect within 0.25 s."""
        self._wanted = messages
        if messages > self.open and not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._ask)

    async def ack(self, reply: str) -> None:
        await self._bus.publish(reply, b"+ACK")

    async def working(self, reply: str) -> None:
        """Begin the ack deadline anew."""
        await self._bus.publish(reply, b"+WPI")

    def _ask(self) -> None:
        self._asking = False
        more = self._wanted - self.open
        if more <= 0 or self._subscription is None or not self._bus.is_connected:
            return
        if not self.open:
            self._last = self._heard = time.monotonic()
        self.open += more
        body = {"batch": more, "expires": self._expires_ns, "idle_heartbeat": int(_HEARTBEAT_S * _NS)}
        self._bus.send(self._subject, _json(body), reply=self._inbox)

    def _on_message(self, message: Message) -> None:
        self._heard = time.monotonic()
        if message.status:
            self._on_status(message)
            return
        self._last = self._heard
        self.open = max(0, self.open - 1)
        self._wanted = max(0, self._wanted - 1)
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>.<pending>
        _, count, seq, _, at_ns, _ = message.reply.rsplit(".", 5)
        self._deliver(
            Delivery(int(seq), int(count), int(at_ns) / _NS, message.subject, message.data, message.reply)
        )

    def _on_status(self, message: Message) -> None:
        if message.status == "100":
            return
        if message.status in ("404", "408"):
            left = message.headers.get("Nats-Pending-Messages", "") if message.headers else ""
            self.open = max(0, self.open - int(left or self.open))
            self._ask()
        else:  # 409: the consumer or its leader is gone; 503: the server starts
            self._heard = 0.0

    async def _keep_open(self) -> None:
        while True:
            await set_within(self._reset, _LOOK_S)
            if not self._bus.is_connected:
                continue
            now = time.monotonic()
            surplus = self.open > self._wanted
            if not surplus:
                self._surplus_since = now
            silent = self.open > 0 and now - self._heard > _SILENCE_S
            if self._reset.is_set() or silent or now - self._surplus_since > _LOOK_S:
                self._reset.clear()
                try:
                    await self._fresh()
                except BrokerError as error:
                    log.info("pulling is begun again", error=str(error))
                    self._reset.set()
            elif self._wanted > self.open:
                self._ask()

    async def _void(self) -> None:
        """Make all open pulls void. What the server had sent by then is still delivered."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.drain()
        self.open = 0

    async def _fresh(self) -> None:
        await self._void()
        self._inbox = self._bus.inbox()
        self._subscription = await self._bus.subscribe(self._inbox, self._on_message)
        self._ask()
