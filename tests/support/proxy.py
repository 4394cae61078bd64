"""A TCP proxy before a nats-server that understands just enough of the protocol to do harm.

`swallow` sees each message on its way to the client and may make it vanish. `freeze` holds back what the
client sends, as a paused process or a full network would; `thaw` lets it through, all of it, late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Made by `proxied`; `url` is the server's, with the proxy's address."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self.url = ""
        self.swallow: Callable[[str, bytes], bool] = lambda subject, payload: False
        self.swallowed = 0
        self.refuse = False  # new connections end at once
        self._login = server.netloc.rpartition("@")[0]
        self._server = (server.hostname or "", server.port or 4222)
        self._open = asyncio.Event()
        self._open.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """End all connections; new ones are accepted."""
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuse:
                raise OSError
            from_server, to_server = await asyncio.open_connection(*self._server)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, to_server}
        for pump in (self._upwards(reader, to_server), self._downwards(from_server, writer)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        self._end(writer)

    async def _downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                frame, subject, payload = line, "", b""
                if line.startswith((b"MSG ", b"HMSG ")):
                    words = line.split()
                    body = await reader.readexactly(int(words[-1]) + 2)
                    head = int(words[-2]) if line.startswith(b"HMSG ") else 0
                    frame, subject, payload = line + body, words[1].decode(), body[head:-2]
                if subject and self.swallow(subject, payload):
                    self.swallowed += 1
                    continue
                writer.write(frame)
                await writer.drain()
        self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(url)
    listener = await asyncio.start_server(proxy._accept, "127.0.0.1", 0, limit=1 << 24)
    port = listener.sockets[0].getsockname()[1]
    proxy.url = f"nats://{proxy._login}@127.0.0.1:{port}"
    try:
        yield proxy
    finally:
        listener.close()
        proxy.thaw()
        proxy.cut()
        for pump in list(proxy._pumps):
            pump.cancel()
        await asyncio.gather(*proxy._pumps, return_exceptions=True)
