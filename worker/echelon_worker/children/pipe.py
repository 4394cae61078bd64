"""Frames between supervisor and child, over a socket pair. Bodies are passed on, not opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from echelon.wire.child import FRAME

OnFrame = Callable[[int, int, int, bytes], None]
"""(kind, token, count, body)"""

_HEAD: Final = FRAME.size


class Pipe(asyncio.Protocol):
    """Our end. `on_frame` is called for each frame that came, `on_lost` once, when the other is closed."""

    def __init__(self, on_frame: OnFrame, on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._rest = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < _HEAD or len(rest) < _HEAD + FRAME.unpack_from(rest)[0]:
                return
            data = bytes(rest)
            rest.clear()
        at, end = 0, len(data)
        while end - at >= _HEAD:
            size, kind, token, count = FRAME.unpack_from(data, at)
            body = at + _HEAD
            if end - body < size:
                break
            at = body + size
            self._on_frame(kind, token, count, data[body:at])
        if at < end:
            rest += data[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def send(self, kind: int, token: int = 0, count: int = 0, body: bytes = b"") -> None:
        """Nothing is sent to a child that is gone: its death is told by `on_lost`."""
        if self._transport is not None:
            self._transport.write(FRAME.pack(len(body), kind, token, count) + body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
