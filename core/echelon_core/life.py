"""The life of a task: one table. Everything asks it; the drawing and its coverage are made from it.

`stage` is fine, `status` coarse. Who may *cause* an event (whose run still counts) is the affair of `runs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    DELEGATED = "delegated"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    BECAME_READY = "became_ready"
    DEPENDENCY_FAILED = "dependency_failed"
    DELEGATED = "delegated"
    RETURNED = "returned"
    RELEASED = "released"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    ERRED = "erred"  # a charged run ended badly and others are left
    DIED = "died"  # no runs are left, or none may follow
    TAKEN_BACK = "taken_back"  # lost or handed back: no run is charged
    DUE = "due"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REDRIVEN = "redriven"


S, E = Stage, Event
LIVE: Final = frozenset({S.WAITING, S.READY, S.DELEGATED, S.QUEUED, S.RUNNING, S.RETRYING})
TERMINAL: Final = frozenset(S) - LIVE

TRANSITIONS: Final[Mapping[tuple[Stage, Event], Stage]] = {
    (S.WAITING, E.BECAME_READY): S.READY,
    (S.WAITING, E.DEPENDENCY_FAILED): S.FAILED,
    (S.READY, E.DELEGATED): S.DELEGATED,
    (S.READY, E.DIED): S.FAILED,  # taken back from its region, and no run is left
    (S.DELEGATED, E.RETURNED): S.READY,  # region drained, lost, or without the pool
    (S.QUEUED, E.RETURNED): S.READY,
    (S.RUNNING, E.RETURNED): S.READY,
    (S.RETRYING, E.RETURNED): S.READY,
    (S.DELEGATED, E.RELEASED): S.QUEUED,
    (S.QUEUED, E.STARTED): S.RUNNING,
    (S.QUEUED, E.SUCCEEDED): S.COMPLETED,  # short tasks: the start rides with the end
    (S.QUEUED, E.ERRED): S.RETRYING,
    (S.QUEUED, E.DIED): S.FAILED,
    (S.QUEUED, E.TAKEN_BACK): S.DELEGATED,  # worker lost before it began
    (S.RUNNING, E.SUCCEEDED): S.COMPLETED,
    (S.RUNNING, E.ERRED): S.RETRYING,
    (S.RUNNING, E.DIED): S.FAILED,
    (S.RUNNING, E.TAKEN_BACK): S.DELEGATED,  # worker lost: its fault, not the code's
    (S.RETRYING, E.DUE): S.DELEGATED,
    # The releases are not logged: a reader sees the end of a run whose queueing it never saw.
    (S.DELEGATED, E.STARTED): S.RUNNING,
    (S.DELEGATED, E.SUCCEEDED): S.COMPLETED,
    (S.DELEGATED, E.ERRED): S.RETRYING,
    (S.DELEGATED, E.DIED): S.FAILED,
    (S.DELEGATED, E.TAKEN_BACK): S.DELEGATED,
    (S.RETRYING, E.STARTED): S.RUNNING,
    (S.RETRYING, E.SUCCEEDED): S.COMPLETED,
    (S.RETRYING, E.ERRED): S.RETRYING,
    (S.RETRYING, E.DIED): S.FAILED,
    (S.RETRYING, E.TAKEN_BACK): S.DELEGATED,
    (S.FAILED, E.REDRIVEN): S.READY,
    (S.CANCELLED, E.REDRIVEN): S.READY,
    (S.EXPIRED, E.REDRIVEN): S.READY,
    **{(stage, E.CANCELLED): S.CANCELLED for stage in sorted(LIVE)},
    **{(stage, E.EXPIRED): S.EXPIRED for stage in sorted(LIVE) if stage is not S.RUNNING},
}

_STATUS: Final[Mapping[Stage, str]] = {
    S.RUNNING: "running",
    S.COMPLETED: "completed",
    S.FAILED: "failed",
    S.EXPIRED: "failed",
    S.CANCELLED: "cancelled",
}


def step(stage: Stage, event: Event) -> Stage | None:
    """The stage that follows, or None if the event comes too late to matter.

    None is no error: delivery is at least once, so late and repeated events are ordinary.
    """
    return TRANSITIONS.get((stage, event))


def status(stage: Stage) -> str:
    """The coarse word of the API: pending, running, completed, failed or cancelled."""
    return _STATUS.get(stage, "pending")
