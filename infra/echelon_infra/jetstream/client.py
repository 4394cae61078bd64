"""A nats-py client that hands messages over inline.

nats-py gives each subscription a queue and a task: two wake-ups a message, and what does not fit the queue
is dropped. Here a handler is a plain function called from the reading task, so nothing waits, nothing is
dropped, and TCP itself holds the server back while we are busy.

It also mends five ways in which nats-py gets stuck: the answer to a flush that was given up, which ends the
reading task; any other exception there, or in the reconnecting task (uvloop raises RuntimeError on a closed
transport), which leaves a connection that is up for ever and deaf; a parser that waits for the rest of a
message of the connection before; and a cancellation that `asyncio.wait_for` swallows when an attempt to
connect fails in the same moment (Python 3.11), which leaves a reconnecting task that nobody can end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription as NatsSubscription

from echelon_infra.telemetry import logs

log: Final = logs.get("broker")

_STATUS_LINE: Final = b"NATS/1.0 "


class Headers(Mapping[str, str]):
    """The headers of a message, decoded when somebody looks. Of repeated ones the last counts."""

    __slots__ = ("_decoded", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._decoded: dict[str, str] | None = None

    def _fields(self) -> dict[str, str]:
        if self._decoded is None:
            first, *lines = self._raw.decode("utf-8", "replace").split("\r\n")
            self._decoded = {
                key: value.strip() for key, _, value in (line.partition(":") for line in lines) if key
            }
            if first.startswith("NATS/1.0 "):
                self._decoded.setdefault("Description", first[13:].strip())
        return self._decoded

    def __getitem__(self, key: str) -> str:
        return self._fields()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields())

    def __len__(self) -> int:
        return len(self._fields())


@dataclass(slots=True)
class Message:
    """What arrived. `status` is set on the broker's own: "100" idle heartbeat, "408" pull ended, "503" ..."""

    subject: str
    data: bytes = b""
    reply: str = ""
    headers: Mapping[str, str] | None = None
    status: str = ""


Handler = Callable[[Message], None]


class Client(NatsClient):
    """nats-py's connection, reconnecting and parsing; our dispatch."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}

    async def listen(self, subject: str, queue: str, handler: Handler) -> int:
        """Subscribe; returns the number to `unlisten` with. Survives reconnects."""
        self._sid += 1
        sid = self._sid
        subscription = NatsSubscription(self, sid, subject, queue=queue)
        self._subs[sid] = subscription
        self.handlers[sid] = handler
        await self._send_subscribe(subscription)
        return sid

    async def mute(self, sid: int) -> None:
        """Tell the server that no more is wanted; what is under way still reaches the handler."""
        if self._subs.pop(sid, None) is not None and not self.is_closed:
            await self._send_unsubscribe(sid)

    async def unlisten(self, sid: int) -> None:
        self.handlers.pop(sid, None)
        await self.mute(sid)

    def send(self, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
        """Queue a publish for the flusher, which writes all that one turn of the loop has queued at once."""
        if headers is None:
            head = f"PUB {subject} {reply} {len(data)}\r\n".encode()
        else:
            lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
            block = f"NATS/1.0\r\n{lines}\r\n".encode()
            head = f"HPUB {subject} {reply} {len(block)} {len(block) + len(data)}\r\n".encode() + block
        self._pending += (head, data, b"\r\n")
        self._pending_data_size += len(head) + len(data) + 2
        queue = self._flush_queue
        if queue is not None and queue.empty() and self.is_connected:
            queue.put_nowait(asyncio.get_running_loop().create_future())

    async def drain_if_full(self, limit: int) -> None:
        """Wait until the socket has taken what is queued, if that is more than `limit` bytes."""
        if self._pending_data_size > limit and self.is_connected:
            await self._flush_pending(force_flush=True)

    @property
    def queued_bytes(self) -> int:
        return self._pending_data_size

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        handler = self.handlers.get(sid)
        if handler is None:
            return
        message = Message(subject.decode(), data, reply.decode())
        if headers:
            message.headers = Headers(headers)
            if headers.startswith(_STATUS_LINE):
                message.status = headers[9:12].decode()
        try:
            handler(message)
        except Exception:
            log.exception("handler failed", subject=message.subject)

    async def _read_loop(self) -> None:
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and task and not task.cancelling():  # it ended without telling anybody
            log.warning("reading ended by itself, connecting anew")
            await self.force_reconnect()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # a flush that was given up
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _connect_to_server(self, s: Any) -> None:
        try:
            await super()._connect_to_server(s)
        finally:
            _heed_cancellation()

    async def _process_connect_init(self) -> None:
        self._ps.reset()  # half a message of the old connection would swallow the new one's bytes
        try:
            await super()._process_connect_init()
        finally:
            _heed_cancellation()

    async def _attempt_reconnect(self) -> None:
        while True:
            try:
                return await super()._attempt_reconnect()
            except (RuntimeError, ValueError, EOFError, AttributeError) as error:
                log.warning("reconnecting failed", error=repr(error))
                await asyncio.sleep(0.2)


def _heed_cancellation() -> None:
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
