"""This worker's presence: a lease that says what it offers, and whose end tells the region that it is gone.

A name belongs to one living process. Our own former self (same host, its process gone) is taken over at once;
another host's is given the time of its lease to expire; one that is renewed meanwhile is alive, and we end.
A lease that was lost (this process was paused or cut off for longer than it lasts) is taken anew; until then
nothing begins here, for the region has given our work to others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import psutil

from echelon_core import names
from echelon_core.entries import WorkerInfo, encode, worker_info
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.lease import Lease
from echelon_infra.telemetry import logs

log = logs.get("worker")

_MARGIN_S: Final = 2.0


class NameTaken(Exception):
    """The worker's id is that of another living process."""

    def __init__(self, holder: WorkerInfo) -> None:
        super().__init__(
            f"The worker id {holder.id!r} belongs to process {holder.pid} on {holder.host}, which is alive. "
            "Choose another with --worker-id, or leave it out and one is made."
        )


class Presence:
    """`info` is asked for at each renewal."""

    def __init__(self, bus: Bus, info: Callable[[], WorkerInfo], *, renew_s: float) -> None:
        self._info = info
        self._ttl_s = max(1, round(3 * renew_s))
        own = info()
        self._own = (own.host, own.pid, own.started_at)
        self._holder: WorkerInfo | None = None
        self._lease = Lease(
            bus,
            names.worker_lease(own.region, own.id),
            ttl_s=self._ttl_s,
            renew_s=renew_s,
            value=lambda: encode(info()),
        )

    async def acquire(self) -> None:
        """Take the lease and keep it alive; waits for the broker as long as it takes.

        Raises:
            NameTaken: another living process has it.
        """
        while True:
            self._holder = None
            try:
                async with asyncio.timeout(self._ttl_s + _MARGIN_S):
                    await self._lease.acquire(mine=self._is_former_self)
            except TimeoutError:
                if self._holder is not None:
                    raise NameTaken(self._holder) from None
            else:
                self._lease.start()
                return

    @property
    def is_lost(self) -> bool:
        return self._lease.lost.is_set()

    def _is_former_self(self, value: bytes) -> bool:
        holder = self._holder = worker_info(value)
        if (holder.host, holder.pid, holder.started_at) == self._own:
            return True
        return holder.host == self._own[0] and not _lives(holder.pid, holder.started_at)

    async def lost(self) -> None:
        """Returns when the lease is lost."""
        await self._lease.lost.wait()

    async def tell(self) -> None:
        """Renew now: something changed that the region should know."""
        await self._lease.renew_now()

    async def release(self) -> None:
        await self._lease.release()


def _lives(pid: int, started_at: float) -> bool:
    """Is that process still the one that started then? Ids are used again."""
    if pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= started_at
    except psutil.NoSuchProcess:
        return False
