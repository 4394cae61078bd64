"""The connection of a process to the broker: publish, request, subscribe, and JetStream's JSON API.

A `Bus` reconnects for ever. It is closed for good only by what no waiting can mend (credentials refused, a
protocol error): `on_closed` is called, and the process should exit and be started again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec
import nats.errors

from .client import Client, Handler, Message, log
from .errors import ApiError, BrokerError, NoResponders, Timeout
from .tasks import set_within

__all__ = ["Bus", "Message", "Subscription", "connect"]

_PENDING_BYTES: Final = 64 << 20
_DRAIN_BYTES: Final = 4 << 20
_SUBJECT_CHARS: Final = 1024

_json = msgspec.json.Encoder().encode
_from_json: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Subscription:
    """Made by `Bus.subscribe`."""

    def __init__(self, bus: Bus, sid: int) -> None:
        self._bus = bus
        self._sid = sid

    async def stop(self) -> None:
        """From here on the handler is not called."""
        await self._bus._client.unlisten(self._sid)

    async def drain(self) -> None:
        """Stop, but first hand over what the server had sent already."""
        client = self._bus._client
        await client.mute(self._sid)
        try:
            await self._bus.flush(1.0)
        except Timeout:
            pass  # a lost connection: nothing more comes
        finally:
            client.handlers.pop(self._sid, None)


class Bus:
    """One connection. Made by `connect`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connected_at = 0.0
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_closed: list[Callable[[], None]] = []
        self._client = Client()
        self._closing = False
        self._refused: asyncio.Future[None] | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Message]] = {}
        self._tokens = itertools.count(1)
        self._inbox = ""
        self._background: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    def inbox(self) -> str:
        """A fresh subject that nobody else has."""
        return self._client.new_inbox()

    def send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish without waiting. While disconnected, up to 64 MB are kept for the next connection.

        Raises:
            BrokerError: the connection is closed for good, the message is too large, or too much is kept.
        """
        client = self._client
        if client.is_closed:
            raise BrokerError("the connection is closed")
        if not _is_subject(subject) or (reply and not _is_subject(reply)):
            raise BrokerError(f"{subject[:80]!r} is no subject")
        if len(data) > client.max_payload:
            raise BrokerError(f"{len(data)} bytes are more than the server takes ({client.max_payload})")
        if client.queued_bytes > _PENDING_BYTES:
            raise BrokerError("too much is waiting for the connection")
        client.send(subject, data, reply, headers)

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """As `send`; waits while the socket is more than 4 MB behind."""
        self.send(subject, data, reply=reply, headers=headers)
        await self._client.drain_if_full(_DRAIN_BYTES)

    async def call(
        self, subject: str, data: bytes = b"", *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        """Ask, and return the whole answer. While disconnected nothing is sent: the time runs out.

        Raises:
            Timeout: no answer in time; the outcome is unknown.
            NoResponders: nobody listens there.
            BrokerError: as `send`.
        """
        if not self._client.is_connected:
            started = time.monotonic()
            await self._until_connected(timeout_s)
            timeout_s = max(0.001, timeout_s - (time.monotonic() - started))
        token = str(next(self._tokens))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        self._answers[token] = answer
        timer = loop.call_later(timeout_s, _expire, answer, subject)
        try:
            self.send(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
            message = await answer
        finally:
            timer.cancel()
            del self._answers[token]
        if message.status == "503" and not message.data:
            raise NoResponders(f"nobody listens on {subject}")
        return message

    async def request(
        self, subject: str, data: bytes = b"", *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """As `call`; the answer's body."""
        return (await self.call(subject, data, timeout_s=timeout_s, headers=headers)).data

    async def api(self, verb: str, body: object | None = None, *, timeout_s: float = 2.0) -> dict[str, Any]:
        """Ask JetStream, for example `api("STREAM.INFO.echelon_ledger")`.

        Raises:
            ApiError: it refused. Timeout, NoResponders, BrokerError: as `call`.
        """
        data = b"" if body is None else _json(body)
        answer = _from_json(await self.request(f"$JS.API.{verb}", data, timeout_s=timeout_s))
        if (error := answer.get("error")) is not None:
            raise ApiError(error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
        return answer

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` for each message, inline: it must neither block nor take long."""
        if self._client.is_closed:
            raise BrokerError("the connection is closed")
        return Subscription(self, await self._client.listen(subject, queue, handler))

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until the server has taken all that was published.

        Raises:
            Timeout: it has not, or the connection is lost.
        """
        if not self._client.is_connected:
            raise Timeout("flush: not connected")
        flushing = asyncio.ensure_future(self._client.flush(timeout=timeout_s))  # type: ignore[arg-type]
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({flushing, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not flushing.done():
                raise Timeout("flush: the connection is lost")
            flushing.result()
        except nats.errors.Error as error:
            raise Timeout(f"flush: {error}") from None
        finally:
            flushing.cancel()
            lost.cancel()

    async def close(self) -> None:
        """Hand over what was published, then close. `on_closed` is not called."""
        self._closing = True
        if self._client.is_connected:
            try:
                await self.flush(2.0)
            except Timeout:
                log.warning("closed before all was handed over", bus=self.name)
        try:
            await self._client.close()
        except (OSError, RuntimeError) as error:
            log.info("closed what was lost already", bus=self.name, error=repr(error))

    # ------------------------------------------------------------------ what nats-py tells us
    async def _open(self, servers: list[str], user: str, password: str, wait_s: float) -> None:
        self._refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(
            self._client.connect(
                servers=servers,
                user=user or None,
                password=password or None,
                name=self.name,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                ping_interval=5,
                max_outstanding_pings=2,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]
                connect_timeout=2,
                max_reconnect_attempts=-1,
                pending_size=_PENDING_BYTES,
                flush_timeout=2.0,
            )
        )
        first = {connecting, self._refused}
        await asyncio.wait(first, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            self._closing = True
            await self._client.close()
            if self._refused.done():
                raise BrokerError("the server refused user or password")
            raise Timeout(f"no nats-server answers within {wait_s:g} s")
        connecting.result()
        self._inbox = self.inbox()
        await self.subscribe(f"{self._inbox}.*", self._on_answer)
        self.connected_at = time.time()
        self._connected.set()

    async def _until_connected(self, timeout_s: float) -> None:
        if not await set_within(self._connected, timeout_s):
            raise Timeout("not connected")

    def _on_answer(self, message: Message) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _on_error(self, error: Exception) -> None:
        if "authorization violation" in str(error).lower():
            if not self._connected.is_set() and self._refused and not self._refused.done():
                self._refused.set_result(None)
            if self.connected_at:  # it knew us once: other credentials by now, no waiting will help
                task = asyncio.ensure_future(self._client.close())
                self._background.add(task)
                task.add_done_callback(self._background.discard)
        tell = log.warning if self._client.is_connected else log.debug
        tell("connection error", bus=self.name, error=repr(error))

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self._lost.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Timeout("the connection was lost"))

    async def _on_reconnected(self) -> None:
        self.connected_at = time.time()
        self._lost.clear()
        self._connected.set()
        log.info("connected again", bus=self.name)
        for tell in list(self.on_reconnect):
            tell()

    async def _on_closed(self) -> None:
        if not self._closing:
            log.error("closed for good", bus=self.name)
            for tell in list(self.on_closed):
                tell()


def _is_subject(text: str) -> bool:
    return 0 < len(text) <= _SUBJECT_CHARS and text.isprintable() and " " not in text


def _expire(answer: asyncio.Future[Message], subject: str) -> None:
    if not answer.done():
        answer.set_exception(Timeout(f"no answer on {subject}"))


async def connect(url: str, name: str, *, wait_s: float = 30.0) -> Bus:
    """Connect, waiting until a server is there.

    `url` is one address or several with commas, `nats://user:password@host:port`; user and password of the
    first hold for all, and for servers of the cluster that are found later.

    Raises:
        Timeout: no server within `wait_s`.
        BrokerError: the server refuses user or password.
    """
    parts = [urlsplit(address if "//" in address else f"nats://{address}") for address in url.split(",")]
    servers = [f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts]
    bus = Bus(name)
    await bus._open(servers, unquote(parts[0].username or ""), unquote(parts[0].password or ""), wait_s)
    return bus
