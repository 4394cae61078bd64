"""What the master's leader decides in a turn, in this order. A table of contents: the logic is elsewhere.

What came from outside and is no entry (rooms, leases) is remembered here, beside the state: it steers where
tasks go, and whatever it steered stands in the entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from echelon_core.entries import LedgerEntry, RegionEntry, Room
from echelon_core.fold import Step
from echelon_master.admit import Limits, SubmitRequest, admit
from echelon_master.control import ActRequest, cancel, retry, withdraw_lost, withdraw_returned
from echelon_master.graph import end_doomed
from echelon_master.notices import Notify
from echelon_master.place import place
from echelon_master.settle import settle
from echelon_master.state import MasterState
from echelon_master.tables import Ended

ROOM_STALE_S: Final = 3.0
DRAIN_OVER_S: Final = 10.0


@dataclass
class Policy:
    """What may be set."""

    backlog_tasks: int = 1_000_000
    backlog_bytes: int = 2 * 1024**3
    region_grace_s: float = 30.0  # without a lease and without a report: then its tasks go elsewhere


@dataclass
class Inputs:
    """What came since the last turn."""

    submits: list[SubmitRequest] = field(default_factory=list)
    cancels: list[ActRequest] = field(default_factory=list)
    retries: list[ActRequest] = field(default_factory=list)
    logs: dict[str, list[tuple[int, RegionEntry]]] = field(default_factory=dict)
    rooms: dict[str, Room] = field(default_factory=dict)
    leases: dict[str, bool] = field(default_factory=dict)  # region -> held


class Master:
    """The fold of the master: `echelon_core.fold.Fold`."""

    def __init__(self, state: MasterState, ended: Ended, notify: Notify, policy: Policy, now: float) -> None:
        self.state = state
        self._ended = ended
        self._notify = notify
        self._policy = policy
        self._began_at = now
        self._rooms: dict[str, Room] = {}
        self._alive_at: dict[str, float] = {}  # region -> its last sign of life
        self._leased: dict[str, bool] = {}
        self._heard_at: dict[str, float] = {}
        self._drained: deque[tuple[float, int]] = deque()

    def apply(self, seq: int, entry: LedgerEntry) -> None:
        self.state.apply(seq, entry)

    def decide(self, inputs: Inputs, now: float) -> Iterator[Step]:
        state, ended, notify = self.state, self._ended, self._notify
        self._hear(inputs, now)
        for region, entries in inputs.logs.items():
            yield from settle(state, notify, region, entries, now)
        yield from end_doomed(state, notify, now)
        for request in inputs.cancels:
            yield from cancel(state, ended, notify, request, now)
            yield from end_doomed(state, notify, now)
        for request in inputs.retries:
            yield from retry(state, ended, request, now)
        yield from admit(state, ended, inputs.submits, self._limits(), now)
        for region in self._lost(now):
            yield from withdraw_lost(state, region, now)
        yield from withdraw_returned(state, now)
        yield from end_doomed(state, notify, now)
        yield from place(state, self._open(now), now)

    # ------------------------------------------------------------------ what is known beside the state
    def _hear(self, inputs: Inputs, now: float) -> None:
        for region, room in inputs.rooms.items():
            if region in self._rooms and room.epoch < self._rooms[region].epoch:
                continue  # a leader that does not know yet that it was deposed
            self._rooms[region] = room
            self._heard_at[region] = self._alive_at[region] = now
        self._leased.update(inputs.leases)
        for region, held in self._leased.items():
            if held:
                self._alive_at[region] = now
        drained = self._drained
        if not drained or now - drained[-1][0] >= 1.0:
            drained.append((now, self.state.ended))
        while now - drained[0][0] > DRAIN_OVER_S:
            drained.popleft()

    def _open(self, now: float) -> dict[str, Room]:
        """Reports that are fresh enough to act on."""
        return {
            region: room
            for region, room in self._rooms.items()
            if now - self._heard_at[region] <= ROOM_STALE_S
        }

    def _limits(self) -> Limits:
        since, ended = self._drained[0]
        span_s = self._drained[-1][0] - since
        rate = (self._drained[-1][1] - ended) / span_s if span_s > 0 else 0.0
        return Limits(self._policy.backlog_tasks, self._policy.backlog_bytes, rate)

    def _lost(self, now: float) -> list[str]:
        """Regions that have tasks of ours and have given no sign of life for longer than their grace."""
        return [
            name
            for name, region in sorted(self.state.regions.items())
            if region.out and now - self._alive_at.get(name, self._began_at) > self._policy.region_grace_s
        ]
