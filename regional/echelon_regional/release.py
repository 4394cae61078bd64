"""What goes into the work queue next, in which order, in which bundles. Pure: it looks and proposes.

Only a short window is released, so a late urgent task overtakes and a cancel acts at once. A type that no
living worker offers is passed over as a whole and holds nobody up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

from echelon.wire.child import Bundle, Run
from echelon_core.queue import LEVELS
from echelon_regional.bundle import BYTES, Means
from echelon_regional.state import Kind, RegionState, Task


class Proposal(NamedTuple):
    lane: str  # of a pool, as in names.work_consumer
    refs: list[int]
    bundle: Bundle


Find = Callable[[Task], bytes | None]
"""The payload of a task that it does not ride with, or None: then it is on its way."""


def propose(
    state: RegionState, rooms: dict[str, int], lanes: Mapping[Kind, str], means: Means, find: Find
) -> Iterator[Proposal]:
    """Bundles in order of priority, then of admission, while their lane has room.

    `rooms` (lane -> runs that may still be released) is used up. The caller must `state.release` each
    proposal before it asks for the next.
    """
    for level in LEVELS:
        while True:
            kinds = {kind for kind, lane in lanes.items() if rooms.get(lane, 0) > 0}
            if not kinds:
                return
            head = state.room.peek_level(level, kinds.__contains__, 1)
            if not head:
                break
            kind = head[0][1]
            lane = lanes[kind]
            size = min(means.size(kind.type), rooms[lane])
            proposal = _bundle(state, lane, _same_kind(state, level, kind, kinds, size), find)
            if proposal is None:
                rooms[lane] = 0  # the payload of the first in line is on its way: nobody overtakes it
                continue
            rooms[lane] -= len(proposal.refs)
            yield proposal


def _same_kind(state: RegionState, level: int, kind: Kind, kinds: set[Kind], size: int) -> list[int]:
    """The first of the level, and those right behind it that are of the same kind."""
    line = state.room.peek_level(level, kinds.__contains__, size)
    return [ref for ref, _ in takewhile(lambda place: place[1] == kind, line)]


def _bundle(state: RegionState, lane: str, refs: list[int], find: Find) -> Proposal | None:
    runs: list[Run] = []
    taken: list[int] = []
    size_bytes = 0
    errands = False
    for ref in refs:
        task = state.tasks[ref]
        payload = task.payload if task.payload is not None else find(task)
        if payload is None:
            break
        size_bytes += len(payload)
        if taken and size_bytes > BYTES:
            break
        run = Run(ref, task.run, task.type, payload, task.options.timeout_s, task.charged + 1, task.id)
        if (more := task.more) is not None:
            run.blob, run.inputs, run.traceparent = more.blob, more.inputs, more.traceparent
            run.resolve = task.options.resolve
            errands = errands or bool(more.blob or more.inputs)
        runs.append(run)
        taken.append(ref)
    return Proposal(lane, taken, Bundle(errands, runs)) if taken else None
