"""The client's way to the broker: requests, an inbox, outcomes by sequence, large things. Only here is nats.

A connection that is lost is made again for as long as the client lives; one that the library has closed for
good, or whose reading task has died, is replaced at the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

from echelon.discover import Place
from echelon.errors import NoServer
from echelon.wire.names import BLOBS, outcomes_stream

CONNECT_S: Final = 2.0
ANSWER_S: Final = 2.0
_PENDING_BYTES: Final = 64 << 20
_BATCH_BYTES: Final = 4 << 20


class NoAnswer(Exception):
    """Nobody answered in time, or nobody listens. What was asked for may have been done."""


class Transport:
    def __init__(
        self, place: Place, on_message: Callable[[bytes], None], on_again: Callable[[], None]
    ) -> None:
        """`on_message`: called with what comes to the inbox; `on_again`: after each reconnect."""
        self._place = place
        self._on_message = on_message
        self._on_again = on_again
        self._nats: Nats | None = None
        self._opening = asyncio.Lock()
        self._refused: asyncio.Future[None]
        self.inbox = ""

    # ---------------------------------------------------------------------------- the connection
    async def open(self) -> Nats:
        """The connection, made if there is none.

        Raises:
            NoServer: nothing answers within CONNECT_S.
        """
        if (sound := self._sound()) is not None:
            return sound
        async with self._opening:
            if (sound := self._sound()) is not None:
                return sound
            again = self._nats is not None
            await self._discard()
            self._nats = made = await self._connect()
            await made.subscribe(self.inbox, cb=self._arrived)
            if again:
                self._on_again()
        return made

    def _sound(self) -> Nats | None:
        """The connection, unless it is beyond mending itself."""
        connection = self._nats
        if connection is None or connection.is_closed:
            return None
        reading = connection._reading_task
        return None if connection.is_connected and reading is not None and reading.done() else connection

    async def _connect(self) -> Nats:
        connection = Nats()
        self._refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(
            connection.connect(
                servers=self._place.url.split(","),
                name="echelon client",
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                connect_timeout=2,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]
                max_reconnect_attempts=-1,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=_PENDING_BYTES,
            )
        )
        await asyncio.wait((connecting, self._refused), timeout=CONNECT_S, return_when="FIRST_COMPLETED")
        if connecting.done() and connecting.exception() is None:
            self.inbox = self.inbox or connection.new_inbox()
            return connection
        connecting.cancel()
        with contextlib.suppress(nats.errors.Error, OSError):
            await connection.close()
        why = ": it refuses user or password" if self._refused.done() else ""
        raise NoServer(tried=f"{self._place.tried}{why}")

    async def _on_error(self, error: Exception) -> None:
        if "authorization" in str(error).lower() and not self._refused.done():
            self._refused.set_result(None)

    async def _on_reconnected(self) -> None:
        self._on_again()

    async def _arrived(self, message: Msg) -> None:
        self._on_message(message.data)

    async def _discard(self) -> None:
        if self._nats is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._nats.close()

    async def close(self) -> None:
        await self._discard()

    # ------------------------------------------------------------------------------------ asking
    async def request(self, subject: str, data: bytes, timeout_s: float = ANSWER_S) -> bytes:
        """
        Raises:
            NoAnswer: in time, or nobody listens; the outcome is unknown.
            NoServer: there was never a connection.
        """
        return (await self._ask(subject, data, timeout_s)).data

    async def _ask(self, subject: str, data: bytes, timeout_s: float) -> Msg:
        connection = await self.open()
        try:
            return await connection.request(subject, data, timeout=timeout_s)
        except nats.errors.NoRespondersError:
            raise NoAnswer("nobody listens") from None
        except nats.errors.MaxPayloadError:
            raise
        except (nats.errors.Error, OSError) as error:
            raise NoAnswer("no answer in time" if isinstance(error, TimeoutError) else str(error)) from None

    async def outcome(self, region: str, sequence: int) -> bytes | None:
        """A message of a region's outcomes; None if it is not there (not yet on this replica, or no more).

        Raises:
            NoAnswer: ask again.
        """
        asked = json.dumps({"seq": sequence}).encode()
        message = await self._ask(f"$JS.API.DIRECT.GET.{outcomes_stream(region)}", asked, ANSWER_S)
        return None if _status(message) else message.data

    # ------------------------------------------------------------------------------- large things
    async def put_blob(self, name: str, data: bytes) -> None:
        """
        Raises:
            NoAnswer: it could not be stored.
        """
        await self._in_store(lambda store: store.put(name, data))

    async def get_blob(self, name: str) -> bytes | None:
        """
        Raises:
            NoAnswer: it could not be read.
        """
        try:
            info = await self._in_store(lambda store: store.get_info(name))
        except nats.js.errors.NotFoundError:
            return None
        parts = bytearray()
        sequence = 1
        while len(parts) < info.size:
            got, sequence = await self._chunks(f"$O.{BLOBS}.C.{info.nuid}", sequence)
            if not got:
                raise NoAnswer(f"blob {name} is not complete")
            parts += got
        return bytes(parts)

    async def _chunks(self, subject: str, sequence: int) -> tuple[bytes, int]:
        """(the next chunks from `sequence` on, where to go on), by a direct get of several."""
        connection = await self.open()
        inbox = connection.new_inbox()
        answers = await connection.subscribe(inbox)
        asked = {"seq": sequence, "next_by_subj": subject, "batch": 256, "max_bytes": _BATCH_BYTES}
        parts = bytearray()
        try:
            await connection.publish(
                f"$JS.API.DIRECT.GET.OBJ_{BLOBS}", json.dumps(asked).encode(), reply=inbox
            )
            while True:
                message = await answers.next_msg(timeout=ANSWER_S)
                if _status(message):
                    return bytes(parts), sequence
                parts += message.data
                sequence = int((message.headers or {})["Nats-Sequence"]) + 1
        except (nats.errors.Error, OSError) as error:
            raise NoAnswer(str(error) or "no answer in time") from None
        finally:
            with contextlib.suppress(nats.errors.Error):
                await answers.unsubscribe()

    async def _in_store(self, use: Callable[[Any], Awaitable[Any]]) -> Any:
        connection = await self.open()
        try:
            return await use(await connection.jetstream(timeout=ANSWER_S).object_store(BLOBS))
        except nats.js.errors.NotFoundError:
            raise
        except (nats.errors.Error, OSError) as error:
            raise NoAnswer(str(error) or "no answer in time") from None


def _status(message: Msg) -> str:
    """The status of an answer that is none: 404 not found, 204 end of batch, 408 …"""
    return (message.headers or {}).get("Status", "")
