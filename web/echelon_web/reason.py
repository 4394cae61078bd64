"""Why is this task not done? One pure function of its row and of who is there; the words are core's."""

from __future__ import annotations

from datetime import UTC, datetime

from echelon.wire.api import DEFAULTS
from echelon_core.life import Stage
from echelon_core.reasons import (
    CancelWanted,
    NoMaster,
    NoRegion,
    NoWorker,
    Reason,
    SlotsBusy,
    WaitsForDependencies,
    WaitsToRetry,
)
from echelon_web.fleet import Fleet
from echelon_web.readmodel.query import Task


def reason_of(
    task: Task, fleet: Fleet, now: float, left: tuple[int, int] = (0, 0), ahead: int | None = None
) -> Reason | None:
    """None: it has ended, it runs, or nothing holds it up that can be seen from here.

    `left`: how many of its dependencies have not ended well, of how many. `ahead`: how many wait before it;
    None when nobody counted, then full slots are not given as a reason.

    In the order a person wants to hear it: what someone did, what is missing, what is full.
    """
    stage, row = task.stage(now), task.row
    if not task.live:
        return None
    if row.cancel is not None:
        return CancelWanted(row.cancel)
    if stage is Stage.RUNNING:
        return None
    if stage is Stage.WAITING and left[0]:
        return WaitsForDependencies(*left)
    if stage is Stage.RETRYING:
        options = task.submitted.options or DEFAULTS
        return WaitsToRetry(row.charged, options.retries + 1, clock_time(row.due))
    wanted = row.region or (task.submitted.options or DEFAULTS).region
    if not row.region and not fleet.leads(now):
        return NoMaster()
    if not fleet.offers(task.type, wanted):
        return NoWorker(task.type, wanted)
    if wanted and ((region := fleet.regions.get(wanted)) is None or region.silent(now)):
        return NoRegion(wanted)
    busy, slots = fleet.slots(task.type, wanted)
    if ahead and busy >= slots:
        return SlotsBusy(task.type, ahead)
    return None


def clock_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") + " UTC"
