"""The object store for payloads and results that are too large for a message.

JetStream's own object store format (what `nats object` and nats-py read and write): an object is a series of
chunks on a subject of its own, and one message on the subject of its name that describes it. The description
is written last, so a name exists only when its content is complete.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from typing import Final

import msgspec

from echelon.wire.names import BLOBS
from echelon_core.names import BLOBS_STREAM

from .connection import Bus
from .errors import ApiError, BrokerError
from .log import read_ack
from .tail import Entry, Tail, read, stored
from .tasks import set_within
from .topology import last_of_subject, last_sequence, purge_subject, retrying

_CHUNK: Final = 128 * 1024
_AT_ONCE: Final = 16
_READ_S: Final = 30.0

_json: Final = msgspec.json.Encoder().encode


class _Info(msgspec.Struct, omit_defaults=True):
    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str = ""
    mtime: str = "0001-01-01T00:00:00Z"
    deleted: bool = False


_info = msgspec.json.Decoder(_Info).decode


class Blobs:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, name: str, data: bytes) -> None:
        """Store; an object of that name is replaced.

        Raises:
            BrokerError: it could not be stored within 30 s, or the store refuses it (full, for example).
        """
        before = await self._find(name)
        await retrying(lambda: self._put(name, data))
        if before is not None:
            await purge_subject(self._bus, BLOBS_STREAM, _chunks(before.nuid))

    async def _put(self, name: str, data: bytes) -> None:
        """One attempt. A chunk whose PubAck is lost may be stored: then all begins anew, elsewhere."""
        nuid = uuid.uuid4().hex
        chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
        try:
            for at in range(0, len(chunks), _AT_ONCE):
                some = chunks[at : at + _AT_ONCE]
                await asyncio.gather(*(self._store(_chunks(nuid), chunk) for chunk in some))
            info = _Info(name, BLOBS, nuid, len(data), len(chunks), f"SHA-256={_digest(data)}")
            await self._store(_meta(name), _json(info), {"Nats-Rollup": "sub"})
        except BrokerError:
            self._bus.send(f"$JS.API.STREAM.PURGE.{BLOBS_STREAM}", _json({"filter": _chunks(nuid)}))
            raise

    async def get(self, name: str) -> bytes | None:
        """The content, or None if there is no such object.

        Raises:
            BrokerError: it is damaged, was replaced while it was read, or the server was away for 30 s.
        """
        info = await self._find(name)
        if info is None:
            return None
        parts: list[bytes] = []
        complete = asyncio.Event()

        def collect(batch: list[Entry]) -> None:
            parts.extend(entry.data for entry in batch)
            if len(parts) >= info.chunks:
                complete.set()

        if info.chunks:
            tail = Tail(self._bus, BLOBS_STREAM, after=0, filters=[_chunks(info.nuid)], deliver=collect)
            await tail.open()
            try:
                await set_within(complete, _READ_S)
            finally:
                await tail.close()
        data = b"".join(parts)
        if len(data) != info.size or info.digest.removeprefix("SHA-256=") != _digest(data):
            raise BrokerError(f"blob {name}: {len(data)} of {info.size} bytes, or they are damaged")
        return data

    async def delete(self, name: str) -> None:
        """Remove it; nothing happens if it is not there. Raises as `get`."""
        info = await self._find(name)
        if info is not None:
            await purge_subject(self._bus, BLOBS_STREAM, _meta(name))
            await purge_subject(self._bus, BLOBS_STREAM, _chunks(info.nuid))

    async def names(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, sorted."""
        end = await last_sequence(self._bus, BLOBS_STREAM)
        found: set[str] = set()
        async for batch in read(self._bus, BLOBS_STREAM, after=0, upto=end, filters=[f"$O.{BLOBS}.M.>"]):
            for entry in batch:
                info = _info(entry.data)
                if not info.deleted and info.name.startswith(prefix):
                    found.add(info.name)
        return sorted(found)

    async def _find(self, name: str) -> _Info | None:
        message = await retrying(lambda: last_of_subject(self._bus, BLOBS_STREAM, _meta(name)))
        if message is None:
            return None
        info = _info(stored(message).data)
        return None if info.deleted else info

    async def _store(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        ack = read_ack(await self._bus.request(subject, data, timeout_s=5.0, headers=headers))
        if ack.error is not None:
            raise ApiError(ack.error.code, ack.error.err_code, ack.error.description)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


def _meta(name: str) -> str:
    return f"$O.{BLOBS}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _chunks(nuid: str) -> str:
    return f"$O.{BLOBS}.C.{nuid}"
