"""What a region's log says of our tasks, as one entry a region and turn (protocol.md §3). Pure.

An entry of region R that was decided at ledger position P speaks of a task's current delegation if and only
if that is to R and not newer than P. Anything else is ignored: a region that was cut off may have gone on
with what was withdrawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from echelon.wire.api import End, Where
from echelon_core.entries import Ended, Moved, RegionEntry, Settled, Verdicts
from echelon_core.fold import Step
from echelon_core.names import SETTLED
from echelon_master.notices import Notify, notices
from echelon_master.state import MasterState
from echelon_master.tables import OUT, Task

REFS_PER_ENTRY: Final = 20_000
"""About 200 KB. A region's entry is never split: the position that is named speaks for all of it."""

_KINDS: Final = {
    "dead": ("failed", ""),
    "poison": ("failed", "poison"),
    "cancelled": ("cancelled", "cancelled"),
    "expired": ("expired", "expired"),
}


def settle(
    state: MasterState, notify: Notify, region: str, entries: Sequence[tuple[int, RegionEntry]], now: float
) -> Iterator[Step]:
    """Entries that settle what this region's log says, beyond what has been dealt with."""
    docket = _Docket(state, region)
    for seq, entry in entries:
        if seq <= state.region(region).position or not isinstance(entry, Verdicts):
            continue
        docket.hear(entry)
        docket.position = seq
        if docket.count >= REFS_PER_ENTRY:
            yield docket.step(notify, now)
            docket = _Docket(state, region)
    if docket.count:
        yield docket.step(notify, now)


class _Docket:
    """One entry in the making."""

    def __init__(self, state: MasterState, region: str) -> None:
        self.state = state
        self.region = region
        self.position = 0
        self.ok: list[Where] = []
        self.ended: list[End] = []
        self.moved: dict[int, Moved] = {}
        self.over: set[int] = set()

    @property
    def count(self) -> int:
        return len(self.over) + len(self.moved)

    def step(self, notify: Notify, now: float) -> Step:
        moved = [m for ref, m in self.moved.items() if ref not in self.over]
        entry = Settled(now, self.region, self.position, self.ok, self.ended, moved)
        return Step(SETTLED, entry, notices(self.state, notify, self.ok, self.ended))

    def hear(self, entry: Verdicts) -> None:
        for sequence, refs in entry.ok:
            mine = self._current(refs, entry.ledger)
            if mine:
                self.over.update(mine)
                self.ok.append(Where(self.region, sequence, mine))
        for end in entry.ended:
            if self._task(end.ref, entry.ledger) is not None:
                self.over.add(end.ref)
                self.ended.append(self._end(end))
        for again in entry.again:
            self._move(entry.ledger, Moved(again.ref, again.charged, again.losses))
        for back in entry.returned:
            self._move(entry.ledger, Moved(back.ref, back.charged, back.losses, True))

    def _current(self, refs: list[int], ledger: int) -> list[int]:
        """Those whose current delegation is meant. The usual case, all of them, without a new list."""
        batches, region, over, moved = self.state.batches, self.region, self.over, self.moved
        mine: list[int] = []
        for ref in refs:
            batch = batches.get(ref >> 10)
            if batch is None:
                continue
            try:
                task = batch.tasks[ref & 1023]
            except LookupError:
                continue
            if (
                task is not None
                and task.stage == OUT
                and task.delegation <= ledger
                and task.region == region
                and ref not in over
                and not (moved and ref in moved and moved[ref].returned)
            ):
                mine.append(ref)
        return mine if len(mine) < 2 or len(set(mine)) == len(mine) else list(dict.fromkeys(mine))

    def _task(self, ref: int, ledger: int) -> Task | None:
        if not self._current([ref], ledger):
            return None
        return self.state.find(ref)

    def _end(self, end: Ended) -> End:
        kind, cause = _KINDS[end.kind]
        return End(end.ref, kind, cause or end.cause, "", self.region, end.sequence)

    def _move(self, ledger: int, moved: Moved) -> None:
        task = self._task(moved.ref, ledger)
        if task is None:
            return
        known = self.moved.get(moved.ref)
        charged, losses = (task.charged, task.losses) if known is None else (known.charged, known.losses)
        if moved.returned or (moved.charged, moved.losses) != (charged, losses):
            self.moved[moved.ref] = moved
