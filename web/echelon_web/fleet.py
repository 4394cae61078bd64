"""Who is there now: the master, the regions, the workers. Kept in memory, from what they say of themselves.

Regions report twice a second and workers hold leases; whoever is silent for longer than it may be is shown
as silent, for a while, because "it was there a moment ago" is what a person needs to know.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from echelon.wire.names import PING
from echelon_core import names
from echelon_core.entries import Room, WorkerInfo, worker_info
from echelon_core.entries import room as decode_room
from echelon_infra.jetstream.connection import Bus, Message, Subscription
from echelon_infra.jetstream.errors import ApiError, BrokerError, NoResponders
from echelon_infra.jetstream.tail import Entry, Tail, watch_last

SILENT_S: Final = 3.0
"""A region that has not reported for this long is silent; a master that has not answered, too."""
REMEMBERED_S: Final = 120.0
_PING_S: Final = 1.0
_LOADS: Final = 60
_LOAD_EVERY_S: Final = 60.0


class Master(msgspec.Struct):
    epoch: int
    position: int
    at: float  # when it last answered


class Region(msgspec.Struct):
    room: Room
    at: float  # when it last reported

    def silent(self, now: float) -> bool:
        return now - self.at > SILENT_S


class Worker(msgspec.Struct):
    info: WorkerInfo
    at: float  # when its lease was last renewed
    gone: float = 0.0  # since when it has none

    @property
    def slots(self) -> int:
        return sum(self.info.slots.values())

    @property
    def busy(self) -> int:
        return sum(self.info.busy.values())

    @property
    def state(self) -> str:
        return "silent" if self.gone else "draining" if self.info.draining else "active"


class Fleet:
    def __init__(self, regions: Iterable[str] = (), clock: Callable[[], float] = time.time) -> None:
        self.master: Master | None = None
        self.expected = set(regions)
        self.regions: dict[str, Region] = {}
        self.workers: dict[tuple[str, str], Worker] = {}
        self.version = 0
        self.heard = 0.0  # when the broker was last heard of
        self.load: deque[float] = deque(maxlen=_LOADS)  # share of busy slots, a minute each
        self.on_region: Callable[[str], None] = lambda region: None
        self._clock = clock
        self._sampled = 0.0
        self._subscription: Subscription | None = None
        self._leases: Tail | None = None
        self._task: asyncio.Task[None] | None = None

    # ----------------------------------------------------------------------------- what is asked
    def leads(self, now: float) -> bool:
        return self.master is not None and now - self.master.at <= SILENT_S

    def names(self) -> list[str]:
        return sorted(self.expected | self.regions.keys())

    def living(self, region: str = "") -> list[Worker]:
        found = [worker for worker in self.workers.values() if not worker.gone]
        return [worker for worker in found if worker.info.region == region] if region else found

    def everybody(self, region: str = "") -> list[Worker]:
        """The living and those who fell silent lately, in an order that stays."""
        found = sorted(self.workers.items())
        return [worker for (place, _), worker in found if not region or place == region]

    def offers(self, kind: str, region: str = "") -> bool:
        return any(kind in worker.info.types for worker in self.living(region))

    def slots(self, kind: str, region: str = "") -> tuple[int, int]:
        """(busy, all) of those lanes that run this type."""
        lanes = [
            (worker.info.busy.get(lane, 0), worker.info.slots.get(lane, 0))
            for worker in self.living(region)
            if (lane := worker.info.types.get(kind)) is not None
        ]
        return sum(busy for busy, _ in lanes), sum(slots for _, slots in lanes)

    # ----------------------------------------------------------------------------- how it learns
    async def open(self, bus: Bus) -> None:
        self._subscription = await bus.subscribe(names.ROOMS, self.on_room)
        self._task = asyncio.create_task(self._watch(bus))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.stop()
        if self._leases is not None:
            await self._leases.close()

    def on_room(self, message: Message) -> None:
        room = decode_room(message.data)
        known = room.region in self.regions
        self.regions[room.region] = Region(room, self._clock())
        self.version += 1
        if not known:
            self.on_region(room.region)

    def on_leases(self, entries: list[Entry]) -> None:
        for entry in entries:
            region, _, worker = entry.subject.rpartition(".")
            key = (region.rpartition(".")[2], worker)
            if entry.data:
                self.workers[key] = Worker(worker_info(entry.data), entry.at)
            elif (known := self.workers.get(key)) is not None and not known.gone:
                known.gone = self._clock()
        self.version += 1

    async def _watch(self, bus: Bus) -> None:
        while True:
            try:
                if self._leases is None:
                    filters = [names.lease_subject(names.worker_leases())]
                    self._leases = await watch_last(bus, names.LEASES_STREAM, filters, self.on_leases)
                answer = msgspec.msgpack.decode(await bus.request(PING, timeout_s=_PING_S), type=dict)
                self.master = Master(int(answer["epoch"]), int(answer["position"]), self._clock())
                self.heard = self._clock()
            except (NoResponders, ApiError):
                self.heard = self._clock()  # the broker is there; the master, or the streams, not yet
            except BrokerError:
                pass
            self._forget()
            self._sample()
            self.version += 1
            await asyncio.sleep(_PING_S)

    def _sample(self) -> None:
        living = self.living()
        slots = sum(worker.slots for worker in living)
        share = sum(worker.busy for worker in living) / slots if slots else 0.0
        now = self._clock()
        if not self.load or now - self._sampled >= _LOAD_EVERY_S:
            self.load.append(share)
            self._sampled = now
        self.load[-1] = max(self.load[-1], share)

    def _forget(self) -> None:
        now = self._clock()
        for key, worker in list(self.workers.items()):
            if worker.gone and now - worker.gone > REMEMBERED_S:
                del self.workers[key]
        for name, region in list(self.regions.items()):
            if name not in self.expected and now - region.at > REMEMBERED_S:
                del self.regions[name]
