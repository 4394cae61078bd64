"""Snapshots of a fold in the object store: so that a start need not read a log from its beginning.

A snapshot is the state at a sequence of its log, in parts, each checked by its digest when it is read. The
newest two are kept: should one be damaged, the older one or the log itself will do. They are listed under one
name, written last, so a snapshot exists only when all of it is there.

The state is written by a forked child, which sees it as it was at that moment while the leader goes on: the
pause is that of the fork, some 40 ms at a gigabyte.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from echelon.wire.codec import pack
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.errors import BrokerError

KEPT: Final = 2
_PART_BYTES: Final = 4 * 1024 * 1024


class _Listed(msgspec.Struct, array_like=True):
    stream: str  # which log: it may have been made anew
    seq: int
    digests: list[bytes]  # of the parts, in order
    whole: bool = True  # False: begun; should its writer die, the next one removes the parts


_listing: Final = msgspec.msgpack.Decoder(list[_Listed]).decode


class Unwritten(Exception):
    """The child that writes the state has failed."""


class Snapshots:
    """Those of one leader's log. `owner` names them, `stream` tells this log from an earlier one."""

    def __init__(self, blobs: Blobs, owner: str, stream: str) -> None:
        self._blobs = blobs
        self._owner = owner
        self._stream = stream

    async def save(self, seq: int, file: Path) -> None:
        """Store what `write_aside` wrote as the snapshot at `seq`; forget all but the newest two.

        Raises:
            BrokerError: it could not be stored.
        """
        digests = [_digest(part) for part in _parts(file)]
        before = [one for one in await self._listed() if (one.stream, one.seq) != (self._stream, seq)]
        begun = _Listed(self._stream, seq, digests, whole=False)
        await self._blobs.put(self._list, pack([begun, *before]))
        for number, part in enumerate(_parts(file)):
            await self._blobs.put(self._name(seq, number), part)
        good = [one for one in before if one.stream == self._stream and one.whole and one.seq < seq]
        kept = [_Listed(self._stream, seq, digests), *good][:KEPT]
        await self._blobs.put(self._list, pack(kept))
        for old in before:
            if old not in kept:
                for number in range(len(old.digests)):
                    await self._blobs.delete(self._name(old.seq, number))

    async def sequences(self, upto: int) -> list[int]:
        """Of the snapshots of this log that do not go beyond `upto`, newest first."""
        return [
            one.seq
            for one in await self._listed()
            if one.stream == self._stream and one.whole and one.seq <= upto
        ]

    async def load(self, seq: int) -> list[bytes] | None:
        """The chunks of a snapshot, or None if it is damaged."""
        listed = next(one for one in await self._listed() if one.seq == seq and one.stream == self._stream)
        parts: list[bytes] = []
        for number, digest in enumerate(listed.digests):
            try:
                part = await self._blobs.get(self._name(seq, number))
            except BrokerError:
                return None
            if part is None or _digest(part) != digest:
                return None
            parts.append(part)
        return list(_unframed(b"".join(parts)))

    async def _listed(self) -> list[_Listed]:
        try:
            return _listing(await self._blobs.get(self._list) or pack([]))
        except (BrokerError, msgspec.MsgspecError):
            return []

    @property
    def _list(self) -> str:
        return f"snapshots-{self._owner}"

    def _name(self, seq: int, part: int) -> str:
        return f"snapshot-{self._owner}-{seq}-{part}"


async def write_aside(file: Path, chunks: Callable[[], Iterable[bytes]]) -> None:
    """Have a forked child write `chunks()` to `file`: the state as it is now, while this process goes on.

    Raises:
        Unwritten: the child failed (a full disk).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        _child(file, chunks)
    waiting = asyncio.ensure_future(asyncio.to_thread(os.waitpid, pid, 0))
    try:
        _, status = await asyncio.shield(waiting)
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        await waiting
        raise
    if status:
        raise Unwritten(f"the child that writes {file} ended with status {status}")


def _child(file: Path, chunks: Callable[[], Iterable[bytes]]) -> None:
    """Write and end, whatever happens: nothing of the parent's may run here, no signal handler, no loop."""
    code = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with file.open("wb") as sink:
            for chunk in chunks():
                sink.write(_framed(chunk))
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


def _parts(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while part := source.read(_PART_BYTES):
            yield part


def _framed(chunk: bytes) -> bytes:
    packed = zlib.compress(chunk, 1)
    return len(packed).to_bytes(4, "big") + packed


def _unframed(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        yield zlib.decompress(data[at + 4 : end])
        at = end


def _digest(part: bytes) -> bytes:
    return hashlib.blake2b(part, digest_size=16).digest()
