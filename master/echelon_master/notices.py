"""Who is told of an end: one message for each inbox and settled entry. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias

from echelon.wire.api import End, Notice, Where
from echelon_core.fold import Effect
from echelon_master.state import MasterState

Notify: TypeAlias = Callable[[str, Notice], None]
"""Sends a notice to an inbox. A hint: whoever waits also asks."""


def notices(state: MasterState, notify: Notify, ok: Iterable[Where], ended: Sequence[End]) -> list[Effect]:
    """Effects that tell those who wait. Call it before the entry is applied: the tasks must still live."""
    told: dict[str, Notice] = {}
    for where in ok:
        for inbox, refs in _by_inbox(state, where.refs).items():
            told.setdefault(inbox, Notice([], [])).ok.append(Where(where.region, where.sequence, refs))
    for end in ended:
        if inbox := state.inbox_of(end.ref):
            told.setdefault(inbox, Notice([], [])).ended.append(end)
    return [partial(_tell, notify, inbox, notice) for inbox, notice in told.items()]


def _tell(notify: Notify, inbox: str, notice: Notice, seq: int) -> None:
    notify(inbox, notice)


def _by_inbox(state: MasterState, refs: list[int]) -> dict[str, list[int]]:
    """Refs of one outcome message mostly stem from one entry, and an entry mostly has one inbox."""
    found: dict[str, list[int]] = {}
    last = -1
    inbox: str | None = ""
    mine: list[int] = []
    for ref in refs:
        seq = ref >> 10
        if seq != last:
            last = seq
            of_all = state.batches[seq].inbox
            inbox = of_all if isinstance(of_all, str) else None
            if inbox:
                mine = found.setdefault(inbox, [])
        if inbox:
            mine.append(ref)
        elif inbox is None and (own := state.inbox_of(ref)):
            found.setdefault(own, []).append(ref)
    return found
