"""One web node: its connection, its read model, what it knows of the others. Handlers are given this."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.settings import Settings
from echelon_web.commands import Commands
from echelon_web.doors import Doors
from echelon_web.fleet import Fleet
from echelon_web.readmodel.feed import Feed
from echelon_web.readmodel.store import Store, reader


@dataclass
class Node:
    settings: Settings
    bus: Bus
    blobs: Blobs
    feed: Feed
    db: sqlite3.Connection  # reads only
    fleet: Fleet
    commands: Commands
    version: str = field(default_factory=lambda: version("echelon-server"))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    broken: asyncio.Event = field(default_factory=asyncio.Event)  # the read model is no longer fed

    def now(self) -> float:
        return time.time()

    async def fresh(self, position: int = 0) -> bool:
        """Wait (≤ 1 s) until reads see `position` and all that this node has acknowledged."""
        return await self.feed.fresh(max(position, self.commands.acknowledged))


@asynccontextmanager
async def running(settings: Settings, bus: Bus) -> AsyncIterator[Node]:
    """Raises Busy: another web node uses the same file."""
    path = settings.data / "web" / "read.db"
    store = Store(path)
    feed = Feed(store)
    fleet = Fleet(settings.regions)
    blobs = Blobs(bus)
    node = Node(settings, bus, blobs, feed, reader(path), fleet, Commands(bus, blobs))
    doors = Doors(node)
    projecting = asyncio.create_task(feed.run())
    projecting.add_done_callback(lambda task: node.broken.set())
    opening = asyncio.create_task(doors.open())
    try:
        feed.on_region = fleet.expected.add
        fleet.on_region = feed.watch
        feed.open(bus)
        for region in settings.regions:
            feed.watch(region)
        await fleet.open(bus)
        yield node
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await doors.close()
        await fleet.close()
        await feed.close()
        projecting.cancel()
        await asyncio.gather(projecting, return_exceptions=True)
        node.db.close()
        store.close()
