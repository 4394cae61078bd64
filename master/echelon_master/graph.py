"""Who is meant by an id, and what becomes of those that wait for a task that ended badly. Pure.

An id is of a live task, of an ended one (the ended index knows), or of none. An id that Echelon made is the
task's ref itself: beyond the ledger's end it never existed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from echelon.wire.api import End
from echelon.wire.names import ref_of
from echelon_core.entries import Dependency, Settled
from echelon_core.fold import Effect, Step
from echelon_core.names import SETTLED
from echelon_master.notices import Notify, notices
from echelon_master.state import MasterState
from echelon_master.tables import Ended, EndedTask

ENDS_PER_ENTRY = 1000


class Directory:
    """Looks ids up; asks the ended index for all that do not live in one go."""

    def __init__(self, state: MasterState, ended: Ended, ids: Iterable[str]) -> None:
        self._state = state
        self._ended = ended
        unknown = [name for name in ids if name not in state.ids and ref_of(name) is None]
        self._named = ended.named(unknown) if unknown else {}

    def live(self, task_id: str) -> int | None:
        """The ref of the live task of this id."""
        ref = ref_of(task_id)
        if ref is None:
            return self._state.ids.get(task_id)
        return ref if self._state.find(ref) is not None else None

    def ended(self, task_id: str) -> EndedTask | None:
        """The ended task of this id, provided that none of this id lives."""
        ref = ref_of(task_id)
        if ref is None:
            return self._named.get(task_id)
        if ref >> 10 > self._state.seq:
            return None
        return self._ended.by_ref(ref)

    def dependency(self, task_id: str) -> Dependency | None:
        """What an id means as a dependency; None: no task has it."""
        ref = self.live(task_id)
        if ref is not None:
            return Dependency(ref)
        over = self.ended(task_id)
        return None if over is None else Dependency(over.ref, over.kind, over.region, over.sequence)


def end_doomed(state: MasterState, notify: Notify, now: float) -> Iterator[Step]:
    """End those whose end is decided: a dependency ended badly, or a wanted end met a withdrawn task.

    Each entry may doom the dependants of those that it ends, so this goes on until nobody is doomed.
    """
    while state.doomed:
        ends: list[End] = []
        for ref in islice(sorted(state.doomed), ENDS_PER_ENTRY):
            task = state.find(ref)
            assert task is not None and task.kin is not None and task.kin.doom is not None
            ends.append(task.kin.doom)
        yield by_master(state, notify, ends, now)


def by_master(
    state: MasterState, notify: Notify, ends: list[End], now: float, effects: tuple[Effect, ...] = ()
) -> Step:
    """The entry that ends tasks which no region has."""
    told = notices(state, notify, (), ends)
    return Step(SETTLED, Settled(now, "", 0, [], ends), (*told, *effects))
