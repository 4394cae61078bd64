"""What goes into the work queue next, in which order, in which bundles. Pure: it looks and proposes.

Only a short window is released, so a late urgent task overtakes and a cancel acts at once. A type that no
living worker offers is passed over as a whole and holds nobody up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from echelon.wire.child import Bundle, Run
from echelon_core.queue import LEVELS

from echelon_regional.bundle import BYTES, Means
from echelon_regional.state import Kind, RegionState, Task


class Proposal(NamedTuple):
    lane: str
    pool: str
    refs: list[int]
    bundle: Bundle


class Payloads:
    """Where payloads are that do not ride along: `find` gives one or None, and then fetches it."""

    def __init__(self, find: Callable[[Task], bytes | None]) -> None:
        self.find = find


def propose(
    state: RegionState, rooms: dict[str, int], lanes: Mapping[Kind, str], means: Means, payloads: Payloads
) -> Iterator[Proposal]:
    """Bundles in order of priority, then of admission, while their lane has room.

    `rooms` (lane -> runs that may still be released) is used up. The caller must `state.release` each
    proposal before it asks for the next.
    """
    for level in LEVELS:
        while True:
            open_lanes = {lane for lane, room in rooms.items() if room > 0}
            if not open_lanes:
                return
            head = state.room.peek_level(level, lambda kind: lanes.get(kind) in open_lanes, 1)
            if not head:
                break
            kind = head[0][1]
            lane = lanes[kind]
            size = min(means.size(kind.type), rooms[lane])
            refs = _same_kind(state, level, kind, lanes, open_lanes, size)
            proposal = _bundle(state, lane, kind, refs, payloads)
            if proposal is None:
                rooms[lane] = 0  # the payload of the first in line is on its way: nobody overtakes it
                continue
            rooms[lane] -= len(proposal.refs)
            yield proposal


def _same_kind(
    state: RegionState, level: int, kind: Kind, lanes: Mapping[Kind, str], open_lanes: set[str], size: int
) -> list[int]:
    """The first of the level, and those right behind it that are of the same kind."""
    if size == 1:
        return state.room.peek(level, kind, 1)
    line = state.room.peek_level(level, lambda other: lanes.get(other) in open_lanes, size)
    refs: list[int] = []
    for ref, other in line:
        if other != kind:
            break
        refs.append(ref)
    return refs


def _bundle(
    state: RegionState, lane: str, kind: Kind, refs: list[int], payloads: Payloads
) -> Proposal | None:
    runs: list[Run] = []
    taken: list[int] = []
    size_bytes = 0
    errands = False
    for ref in refs:
        task = state.tasks[ref]
        payload = task.payload if task.payload is not None else payloads.find(task)
        if payload is None:
            break
        size_bytes += len(payload)
        if taken and size_bytes > BYTES:
            break
        run = Run(
            ref, task.run, task.type, payload, task.options.timeout_s, task.charged + 1, task.id
        )
        if (more := task.more) is not None:
            run.blob, run.inputs, run.traceparent = more.blob, more.inputs, more.traceparent
            run.resolve = task.options.resolve
            errands = errands or bool(more.blob or more.inputs)
        runs.append(run)
        taken.append(ref)
    return Proposal(lane, kind.pool, taken, Bundle(errands, runs)) if taken else None
