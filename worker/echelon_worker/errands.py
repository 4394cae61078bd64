"""What a bundle needs before it can run: payloads from the object store, results of dependencies.

A child cannot reach the broker, so the supervisor fetches, puts the bytes into the bundle and passes it on.
Entries of outcomes hold many results and dependants need many of them: the newest entries read are kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import msgspec

from echelon.wire.child import (
    ERROR,
    FATAL,
    OK,
    Bundle,
    Error,
    Input,
    Ran,
    Run,
    bundle,
    encode_bundle,
    outcomes,
)
from echelon.wire.codec import pack
from echelon_core import names
from echelon_infra.jetstream import tail
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError, NoResponders, Timeout
from echelon_infra.telemetry import logs

log = logs.get("worker")
T = TypeVar("T")

Where: TypeAlias = tuple[str, int]
"""(region, sequence in its outcomes)"""

AT_ONCE: Final = 16
KEPT_BYTES: Final = 32 << 20
AGAIN_S: Final = 0.5


class Gone(Exception):
    """What a run needs is not there any more; it can never run."""


class Ready(msgspec.Struct):
    """A bundle that can run, and the runs of the original that never can, as encoded Ran items."""

    data: bytes
    runs: int
    failed: list[bytes]


class Errands:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._blobs = Blobs(bus)
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._entries: OrderedDict[Where, dict[int, Ran]] = OrderedDict()
        self._sizes: dict[Where, int] = {}

    async def fetch(self, encoded: bytes) -> Ready:
        """Fill a bundle in, for as long as it takes. What is gone or unreadable fails its run alone."""
        whole: Bundle = bundle(encoded)
        failures = await asyncio.gather(*(self._fill(run) for run in whole.runs))
        left = [run for run, failure in zip(whole.runs, failures, strict=True) if failure is None]
        failed = [pack(failure) for failure in failures if failure is not None]
        return Ready(encode_bundle(Bundle(False, left)), len(left), failed)

    async def _fill(self, run: Run) -> Ran | None:
        """Fetch what one run needs, into it; returns its end if that cannot be."""
        try:
            if run.blob:
                run.payload = await self._blob(run.blob)
                run.blob = ""
            wanted: dict[Where, list[Input]] = {}
            for one in run.inputs or ():
                wanted.setdefault((one.region, one.sequence), []).append(one)
            await asyncio.gather(*(self._fill_inputs(where, ones) for where, ones in wanted.items()))
        except Gone as gone:
            return _failure(run, FATAL, "InputGone", str(gone))
        except BrokerError as error:
            return _failure(run, ERROR, "InputUnreadable", str(error))
        return None

    async def _fill_inputs(self, where: Where, ones: list[Input]) -> None:
        results = await self._results(where, ones[0].id)
        for one in ones:
            ran = results.get(one.ref)
            if ran is None:
                raise Gone(f"The result of {one.id} is not where it should be.")
            one.value = await self._blob(ran.blob) if ran.blob else ran.result

    async def _blob(self, name: str) -> bytes:
        async with self._at_once:
            data = await _patiently(lambda: self._blobs.get(name))
        if data is None:
            raise Gone(f"The object {name} is not in the object store any more.")
        return data

    async def _results(self, where: Where, for_whom: str) -> dict[int, Ran]:
        """What succeeded, of one message of outcomes: ref -> Ran."""
        region, sequence = where
        async with self._at_once:
            if where not in self._entries:
                entry = await _patiently(lambda: tail.get(self._bus, names.outcomes(region), sequence))
                if entry is None:
                    raise Gone(f"The result of {for_whom} has been removed.")
                self._keep(where, entry.data)
            self._entries.move_to_end(where)
            return self._entries[where]

    def _keep(self, where: Where, data: bytes) -> None:
        self._entries[where] = {ran.ref: ran for ran in outcomes(data).ran if ran.status == OK}
        self._sizes[where] = len(data)
        while sum(self._sizes.values()) > KEPT_BYTES and len(self._entries) > 1:
            oldest, _ = self._entries.popitem(last=False)
            del self._sizes[oldest]

    async def store(self, ran: Ran) -> Ran:
        """Put a large result into the object store, for as long as it takes; returns what is told of it."""
        name = f"r-{ran.ref}-{ran.run}"
        while True:
            try:
                await self._blobs.put(name, ran.result)
            except BrokerError as error:
                log.warning("a large result is not stored yet", bytes=len(ran.result), error=str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                return Ran(ran.ref, ran.run, ran.status, b"", ran.started, ran.ended, ran.error, name)


def _failure(run: Run, status: int, kind: str, message: str) -> Ran:
    now = time.time()
    return Ran(run.ref, run.run, status, b"", now, now, Error(kind, message[:500]))


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until the broker is there. What it refuses is raised."""
    while True:
        try:
            return await ask()
        except (Timeout, NoResponders) as error:
            log.warning("waiting for the broker", error=str(error))
            await asyncio.sleep(AGAIN_S)
