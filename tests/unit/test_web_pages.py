"""What pages say: the verdict, rates, where a task's time went."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from echelon_core.life import Stage
from echelon_web.draw import history, lines
from echelon_web.pages.overview.rates import Rates
from echelon_web.pages.overview.verdict import Facts, verdict
from echelon_web.readmodel.query import Attempt, Bucket, Task
from echelon_web.readmodel.rows import Row, Submitted

WELL = Facts(
    now=1e9, tasks=10, pending=1, failed=0, leads=True, silent_regions=(), regions=2, silent_workers=(),
    workers=2, busy=1, slots=8, homeless=(), oldest_s=0.5, came=2.0, went=2.0, succeeded=100, failed_lately=0,
    failed_hour=0, cut_off=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "health", "title"),
    [
        ({}, "ok", "Everything flows"),
        ({"pending": 0, "came": 0.0}, "ok", "All is done"),
        ({"tasks": 0}, "ok", "Ready for work"),
        ({"leads": False}, "bad", "No master leads"),
        ({"cut_off": True, "leads": False}, "bad", "Cut off from the broker"),
        ({"silent_regions": ("west",)}, "bad", "west is silent"),
        ({"workers": 0, "pending": 3}, "bad", "No worker is up"),
        ({"workers": 0, "pending": 0}, "warn", "No worker is up"),
        ({"homeless": (("x", 3), ("y", 1))}, "warn", "Nobody offers x"),
        ({"silent_workers": ("w1",)}, "warn", "1 worker fell silent"),
        ({"came": 50.0, "oldest_s": 90.0}, "warn", "The backlog grows"),
        ({"failed_lately": 25}, "warn", "20 % of tasks fail"),
    ],
)
def test_the_verdict_says_the_worst_first(change: dict[str, Any], health: str, title: str) -> None:
    said = verdict(WELL._replace(**change))
    assert (said.health, said.title) == (health, title)
    assert said.text and said.second[1] and said.third[1]
    assert len(said.second[1]) <= 3


def test_rates_are_means_and_series_of_buckets() -> None:
    now = 36_000.0
    buckets = [Bucket(now - 10, "east", 0, 30, 20, 10, 0), Bucket(now - 10, "", 60, 0, 0, 0, 0)]
    rates = Rates(buckets, now)
    assert rates.mean("admitted", 30) == 2.0 and rates.mean("ended", 30, "east") == 1.0
    assert rates.total("failed", 900) == 10 and rates.mean("placed", 30, "west") == 0
    assert rates.series("admitted")[-1] == 1.0
    assert rates.backlog(30)[-2:] == [0.0, 30.0]


def task(stage: Stage, *attempts: Attempt, **row: Any) -> Task:
    said = Submitted(5, b"", 0, "", None, 0, 100.0)
    return Task(1024, "a", "t", said, Row(stage, placements=1, placed=101.0, **row), list(attempts))


def test_where_the_time_went_leaves_no_gap_and_no_overlap() -> None:
    failed = Attempt(1, "east", "w", 103.0, 104.0, "failure", "E", "m", due=106.0)
    lost = Attempt(2, "east", "w", 107.0, 0.0, "lost", due=110.0)
    ok = Attempt(3, "east", "w", 111.0, 112.0, "success")
    parts = history.parts(task(Stage.COMPLETED, failed, lost, ok), 112.0)
    assert parts[0].start == 100.0 and parts[-1].end == 112.0
    assert all(a.end == b.start for a, b in pairwise(parts))
    seconds = {share.kind: share.seconds for share in history.shares(parts)}
    assert seconds["run"] == 2.0 and seconds["backoff"] == 2.0 and seconds["lost"] == 4.0


def test_of_a_task_that_waits_all_time_is_in_the_queue() -> None:
    parts = history.parts(task(Stage.DELEGATED, region="east"), 130.0)
    assert [part.kind for part in parts] == ["place", "queue"] and parts[-1].end == 130.0


def test_drawings_escape_what_users_typed() -> None:
    drawn = history.runs(task(Stage.RUNNING, Attempt(1, "east", "<b>", 103.0), region="<i>"), 110.0, 110.0)
    assert "<b>" not in drawn and "&lt;b&gt;" in drawn and "<i>" not in drawn


def test_a_spark_of_nothing_is_a_flat_line() -> None:
    assert "NaN" not in lines.spark([]) and lines.spark([0.0, 0.0]).count(",26.0") == 4
