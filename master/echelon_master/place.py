"""Which region runs what. Pure.

By priority, inside a level in order of admission. A task goes only to a region that has lately said that a
living worker offers its type, and only while that region's credit lasts; what nobody offers waits without
holding anybody up. Among those that may have it, the region that is fullest *of its own capacity* comes last,
so a burst is shared in the ratio of the credits and a slow region is not drowned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from echelon.wire.api import DEFAULTS
from echelon.wire.names import REQUEST_BYTES, TASKS_PER_REQUEST
from echelon_core.entries import Delegated, Item, Room, offer
from echelon_core.fold import Step
from echelon_core.names import delegated
from echelon_core.queue import LEVELS
from echelon_master.state import MasterState
from echelon_master.tables import Kind, Place, Task

CHUNK: Final = 32
"""Neighbours that go to one region together: they share a bundle there, and an entry's cache."""
LOOK: Final = 4 * TASKS_PER_REQUEST
ITEM_BYTES: Final = 100
INPUT_BYTES: Final = 100


@dataclass
class _Offer:
    """What a region can still take in this turn."""

    name: str
    types: Mapping[str, str]
    credit: int
    out: int
    latest: int
    line: list[tuple[int, Task]] = field(default_factory=list)

    @property
    def headroom(self) -> int:
        return self.credit - self.out

    def takes(self, kind: Place) -> bool:
        task_type, region, pool = kind
        return region in ("", self.name) and offer(task_type, pool) in self.types

    def fullness(self) -> tuple[float, int, str]:
        """The emptiest first; of equals the one that was served longest ago."""
        return (self.out / self.credit, self.latest, self.name)


def place(state: MasterState, rooms: Mapping[str, Room], now: float) -> Iterator[Step]:
    """Delegations, as long as something waits that a region has room for."""
    if not state.room.count:
        return
    offers = [
        _Offer(name, room.types, room.credit, known.out, known.latest)
        for name, room in sorted(rooms.items())
        if room.credit > (known := state.region(name)).out
    ]
    for level in LEVELS:
        more = state.room.waits_at(level)
        while more:
            more = _deal(state, offers, level)
            for taker in offers:
                line, taker.line = taker.line, []
                if line:
                    yield from _delegations(taker.name, line, now)


def _deal(state: MasterState, offers: list[_Offer], level: int) -> bool:
    """Hand the first of a level out to the offers; False: no more of this level can go anywhere."""
    limit = min(LOOK, sum(taker.headroom for taker in offers))
    if limit <= 0:
        return False
    takers: dict[Place, list[_Offer]] = {}
    alike: dict[tuple[str, ...], list[_Offer]] = {}  # kinds with the same takers share one list

    def wanted(kind: Place) -> bool:
        able = [o for o in offers if o.credit > o.out and o.takes(kind)]
        if able:
            takers[kind] = alike.setdefault(tuple(o.name for o in able), able)
        return bool(able)

    line = state.room.first(level, wanted, limit)
    spread = max(1, min(CHUNK, len(line) // (2 * len(offers))))
    best: _Offer | None = None
    chosen_from: list[_Offer] = []
    kind: Kind | None = None
    able: list[_Offer] = []
    left = 0
    for ref in line:
        task = state.find(ref)
        assert task is not None
        if task.kind is not kind:
            kind = task.kind
            able = takers[kind.place]
        if best is None or not left or best.out >= best.credit or able is not chosen_from:
            able[:] = [taker for taker in able if taker.credit > taker.out]
            if not able:
                continue  # what could take this kind is full; those behind it may still go elsewhere
            best, chosen_from, left = min(able, key=_Offer.fullness), able, spread
        best.line.append((ref, task))
        best.out += 1
        left -= 1
    return best is not None and len(line) == limit


def _delegations(region: str, line: list[tuple[int, Task]], now: float) -> Iterator[Step]:
    """Entries of at most 1,000 tasks and 512 KiB, but of one task at least."""
    items: list[Item] = []
    size_bytes = 0
    for ref, task in line:
        item = _item(ref, task)
        item_bytes = ITEM_BYTES + (len(item.payload) if item.payload else 0)
        if item.more is not None:
            item_bytes += INPUT_BYTES * len(item.more.inputs or ())
        if items and (len(items) >= TASKS_PER_REQUEST or size_bytes + item_bytes > REQUEST_BYTES):
            yield Step(delegated(region), Delegated(now, region, items))
            items, size_bytes = [], 0
        items.append(item)
        size_bytes += item_bytes
    yield Step(delegated(region), Delegated(now, region, items))


def _item(ref: int, task: Task) -> Item:
    kind, kin = task.kind, task.kin
    options = None if kind.options is DEFAULTS else kind.options
    source, more = (ref >> 10, None) if kin is None else (kin.source or ref >> 10, kin.more())
    return Item(
        ref, kind.type, task.payload, task.priority, task.id, options, task.charged, task.losses, source, more
    )
