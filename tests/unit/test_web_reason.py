"""Why is this task not done? One sentence, in the order a person wants to hear it."""

from __future__ import annotations

from typing import Any

import pytest

from echelon.wire.api import Options
from echelon_core.entries import Room, WorkerInfo
from echelon_core.life import Stage
from echelon_web.fleet import Fleet, Master, Region, Worker
from echelon_web.readmodel.query import Task
from echelon_web.readmodel.rows import Row, Submitted
from echelon_web.reason import reason_of

NOW = 1_700_000_000.0


def fleet(*, busy: int = 0, types: str = "add", leads: bool = True, reports: bool = True) -> Fleet:
    found = Fleet(["east"], clock=lambda: NOW)
    if leads:
        found.master = Master(1, 9, NOW)
    if reports:
        found.regions["east"] = Region(Room("east", 1, 100, {}, 1, 4), NOW)
    if types:
        info = WorkerInfo(
            "w", "east", "default", "h", 1, NOW, {"async": 4}, {types: "async"}, {"async": busy}
        )
        found.workers["east", "w"] = Worker(info, NOW)
    return found


def task(stage: Stage, region: str = "", **row: Any) -> Task:
    said = Submitted(5, b"", 0, "", Options(region=row.pop("wanted", "")), 2, NOW - 5)
    return Task(1024, "a", "add", said, Row(stage, region=region, **row))


@pytest.mark.parametrize(
    ("found", "who", "said"),
    [
        (task(Stage.COMPLETED), fleet(), None),
        (task(Stage.RUNNING, "east"), fleet(), None),
        (task(Stage.READY), fleet(), None),
        (task(Stage.DELEGATED, "east"), fleet(), None),
        (task(Stage.WAITING), fleet(), "Waits for 1 of 2 dependencies."),
        (task(Stage.READY), fleet(types="other"), "No live worker offers 'add'. Start one with"),
        (task(Stage.DELEGATED, "east"), fleet(types=""), "No live worker offers 'add' in region east."),
        (task(Stage.READY, wanted="west"), fleet(), "No live worker offers 'add' in region west."),
        (task(Stage.READY), fleet(leads=False), "No master leads"),
        (task(Stage.DELEGATED, "east"), fleet(reports=False), "Region 'east' has no scheduler running."),
        (task(Stage.DELEGATED, "east"), fleet(busy=4), "Every slot for 'add' is busy; 3 tasks go before it."),
        (
            task(Stage.RETRYING, "east", charged=2, due=NOW + 60), fleet(),
            "Failed 2 of 4 times; runs again at 22:14:20 UTC.",
        ),
        (task(Stage.RETRYING, "east", charged=2, due=NOW - 1), fleet(), None),
        (task(Stage.RUNNING, "east", cancel="ana"), fleet(), "Its end was asked for by ana"),
    ],
)  # fmt: skip
def test_the_reason(found: Task, who: Fleet, said: str | None) -> None:
    reason = reason_of(found, who, NOW, left=(1, 2), ahead=3)
    assert (said is None and reason is None) or (said is not None and str(reason).startswith(said)), reason


def test_full_slots_are_no_reason_where_nobody_counted() -> None:
    assert reason_of(task(Stage.DELEGATED, "east"), fleet(busy=4), NOW) is None
