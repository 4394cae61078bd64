"""The child's end of the socket: frames out of bytes, and outcomes of a bundle into frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from echelon.wire.child import FRAME, Kind, Ran, Run
from echelon.wire.names import INLINE_BYTES

_HEAD: Final = FRAME.size
_encode_into: Final = msgspec.msgpack.Encoder().encode_into


class Frames:
    """Bytes as they arrive become whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(kind, token, body) of each frame that is complete by now."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD:
            size, kind, token, _ = FRAME.unpack_from(buffer, at)
            if len(buffer) < (end := at + _HEAD + size):
                break
            body = bytes(memoryview(buffer)[at + _HEAD : end])
            at = end
            yield kind, token, body
        del buffer[:at]


def frame(kind: int, token: int, body: bytes | bytearray, count: int = 0) -> bytes:
    return FRAME.pack(len(body), kind, token, count) + body


class Sheaf:
    """What became of one bundle's runs, as far as it has not been sent."""

    __slots__ = ("_count", "_large", "_out", "_token", "left")

    def __init__(self, token: int, runs: int) -> None:
        self._token = token
        self.left = runs  # that have not ended
        self._out = bytearray()
        self._count = 0
        self._large: list[bytes] = []

    def add(
        self, run: Run, status: int, result: bytes, started: float, ended: float, error: object = None
    ) -> None:
        """Times are seconds since 1970, both 0 if it never began."""
        self.left -= 1
        ran = Ran(run.ref, run.run, status, result, started, ended, error)  # type: ignore[arg-type]
        if len(result) > INLINE_BYTES:
            self._large.append(frame(Kind.LARGE, self._token, msgspec.msgpack.encode(ran), 1))
        else:
            _encode_into(ran, self._out, -1)
            self._count += 1

    def take(self) -> bytes:
        """The frames to send now. Whoever takes the last ones has ended the bundle."""
        kind = Kind.RAN if self.left else Kind.DONE
        last = b"" if self.left and not self._count else frame(kind, self._token, self._out, self._count)
        sent = b"".join((*self._large, last))
        self._out = bytearray()
        self._count = 0
        self._large = []
        return sent

    def starts(self, encoded: bytes) -> bytes:
        return frame(Kind.STARTED, self._token, encoded)
