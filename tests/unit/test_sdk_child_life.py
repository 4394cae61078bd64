"""A child under way: time, orders, slots, the shared page, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.wire.child import (
    CANCELLED,
    ERROR,
    HANDED_BACK,
    OK,
    RETIRED,
    TIMEOUT,
    Kind,
    Run,
)
from support.child_process import ChildProcess, child

APP = Path(__file__).parents[1] / "support" / "child_app.py"


@pytest.fixture(scope="module")
def shared() -> Iterator[ChildProcess]:
    """One child for all that must leave it unharmed."""
    with child(APP) as running:
        running.hello()
        yield running
        assert running.process.poll() is None


@pytest.fixture(params=["async", "sync"])
def either(request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    with child(APP, request.param) as running:
        running.hello()
        yield running


def test_runs_do_not_share_context_variables(shared: ChildProcess) -> None:
    ran = shared.run(*[Run(k, 1, "variables", b"", 300.0, 1) for k in range(10)])
    assert {json.loads(r.result) for r in ran} == {"fresh/set by another"}


def test_coroutines_have_a_task_of_their_own_from_the_first_line(shared: ChildProcess) -> None:
    for _ in range(3):
        ran = shared.run(
            *[Run(k, 1, ("timed", "timed.at_once")[k % 2], b"", 300.0, 1) for k in range(20)],
        )
        got = {json.dumps(json.loads(r.result)) for r in ran}
        assert got == {'["from a child", true, 0]', '"timeout"'}


def test_a_handler_that_cancels_its_own_task_harms_no_other(shared: ChildProcess) -> None:
    def burst() -> list[int]:
        names = [
            ("cancels.itself", b'{"swallow":true}'),
            ("cancels.itself", b'{"swallow":false}'),
            ("timed", b""),
        ]
        runs = [Run(k, 1, *names[k % 3], 300.0, 1) for k in range(12)]
        return [r.status for r in sorted(shared.run(*runs), key=lambda r: r.ref)]

    for _ in range(2):
        assert burst() == [OK, ERROR, OK] * 4


def test_a_coroutine_is_cancelled_at_its_timeout(shared: ChildProcess) -> None:
    began = time.monotonic()
    for name in ("sleeps", "sleeps.polite"):
        ran = shared.one(name, timeout_s=0.1)
        assert ran.status == TIMEOUT
        assert ran.error is not None
        assert ran.error.type == "Timeout"
    assert time.monotonic() - began < 2
    ran = shared.one("sleeps", timeout_s=0.1)
    assert ran.error is not None
    assert "asyncio.sleep(seconds)" in ran.error.traceback  # where it was


def test_what_lasts_is_announced_and_neighbours_go_on(shared: ChildProcess) -> None:
    shared.starts.clear()
    runs = [Run(1, 7, "sleeps", b'{"seconds":0.4}', 300.0, 1), Run(2, 7, "add", b'{"a":1}', 300.0, 1)]
    ran = shared.run(*runs)
    assert [r.ref for r in ran] == [2, 1]
    assert [(s.ref, s.run) for s in shared.starts] == [(1, 7)]
    assert shared.starts[0].at == pytest.approx(ran[1].started, abs=0.01)


def test_an_outcome_does_not_wait_for_a_neighbour_that_blocks() -> None:
    with child(APP, "sync") as running:
        running.hello()
        for _ in range(3):
            slow = Run(3, 5, "blocks.sync", b'{"seconds":0.5}', 9.0, 1)
            running.give([*(Run(n, 5, "sync.add", b'{"a":1}', 9.0, 1) for n in (1, 2)), slow])
            began = time.monotonic()
            first = running.some()
            assert ({r.ref for r in first} <= {1, 2}, time.monotonic() - began < 0.4) == (True, True)
            assert [r.ref for r in first + running.outcomes()] == [1, 2, 3]


def test_no_more_than_the_slots_at_once() -> None:
    with child(APP, slots=3) as running:
        running.hello()
        ran = running.run(*[Run(k, 1, "sleeps", b'{"seconds":0.05}', 300.0, 1) for k in range(9)])
        marks = sorted([(r.started, 1) for r in ran] + [(r.ended, -1) for r in ran])
        together, most = 0, 0
        for _, change in marks:
            together += change
            most = max(most, together)
        assert most == 3


def test_an_order_stops_what_runs_and_what_waits() -> None:
    with child(APP, slots=1) as running:
        running.hello()
        running.give([Run(k, 5, "sleeps", b"", 300.0, 1) for k in (1, 2)])
        running.give([Run(3, 5, "sleeps.polite", b"", 300.0, 1)])
        running.stop(2, 5)
        [waiting] = running.some()
        assert (waiting.ref, waiting.status, waiting.started) == (2, CANCELLED, 0.0)
        running.stop(1, 4)  # another run of the same task: none of ours
        running.stop(1, 5)
        [first] = running.outcomes()
        assert (first.ref, first.status) == (1, CANCELLED)
        running.stop(3, 5)
        [polite] = running.outcomes()
        assert (polite.status, json.loads(polite.result)) == (OK, "tidied up")


def test_what_will_not_end_is_given_up_and_the_child_replaced() -> None:
    with child(APP) as running:
        running.hello()
        running.give([Run(1, 5, "sleeps.stubborn", b"", 0.1, 1)])
        running.give([Run(2, 5, "sleeps", b'{"seconds":3}', 300.0, 1), Run(3, 5, "sleeps", b"", 300.0, 1)])
        ran = {r.ref: r.status for r in running.outcomes(2, timeout_s=20)}
        assert ran == {1: TIMEOUT, 2: OK, 3: HANDED_BACK}
        assert running.process.wait(10) == RETIRED


def test_the_page_names_the_run_that_has_the_thread() -> None:
    for lane, name in (("sync", "blocks.sync"), ("async", "blocks")):
        with child(APP, lane) as running:
            running.hello()
            assert not running.look().busy
            running.give([Run(77, 5, name, b'{"seconds":0.3}', 42.0, 1)])
            seen = running.busy()
            assert (seen.ref, seen.run, seen.timeout_s) == (77, 5, 42.0)
            assert 0 <= time.monotonic() - seen.started < 5
            running.outcomes()
            assert not running.look().busy
            assert running.look().beat > seen.beat


@pytest.mark.parametrize("name", ["dies", "segfaults"])
def test_the_page_names_the_killer_after_the_death(name: str) -> None:
    with child(APP, "sync") as running:
        running.hello()
        running.give([Run(1, 5, "sync.add", b'{"a":1}', 9.0, 1), Run(2, 5, name, b"", 9.0, 1)])
        running.outcomes()
        running.process.wait(10)
        assert (running.look().busy, running.look().ref) == (True, 2)


def test_a_sync_handler_sees_that_it_was_cancelled() -> None:
    with child(APP, "sync") as running:
        running.hello()
        running.give([Run(1, 5, "asks", b"", 9.0, 1), Run(2, 5, "sync.add", b'{"a":1}', 9.0, 1)])
        running.busy()
        running.stop(2, 5)
        running.stop(1, 5)
        assert {r.ref: r.status for r in running.outcomes()} == {1: OK, 2: CANCELLED}


def test_a_copy_forked_by_a_handler_reports_nothing(either: ChildProcess) -> None:
    runs = [Run(1, 5, "forks", b"", 9.0, 1), Run(2, 5, "sync.add", b'{"a":1}', 9.0, 1)]
    ran = either.run(*runs)
    assert [(r.ref, r.status) for r in ran] == [(1, OK), (2, OK)]
    assert json.loads(ran[0].result) == "from the original"
    assert either.result("sync.add", b'{"a":1}') == 1.5


def test_drain_finishes_what_runs_and_begins_nothing() -> None:
    for lane in ("async", "sync"):
        with child(APP, lane, slots=1) as running:
            running.hello()
            running.give([Run(1, 5, "add", b'{"a":1}', 9.0, 1)])
            running.give([Run(k, 5, "sleeps", b'{"seconds":0.3}', 9.0, 1) for k in (2, 3)])
            assert [r.ref for r in running.outcomes()] == [1]
            if lane == "sync":
                running.busy()
            running.send(Kind.DRAIN)
            assert [r.ref for r in running.outcomes()] == [2]
            assert running.process.wait(10) == 0


def test_it_dies_with_its_supervisor() -> None:
    for lane in ("async", "sync"):
        with child(APP, lane) as running:
            running.hello()
            running.sock.close()
            assert running.process.wait(10) == 0


def test_ctrl_c_is_the_supervisors_affair(either: ChildProcess) -> None:
    os.kill(either.process.pid, signal.SIGINT)
    assert either.result("add", b'{"a":1}') == 1.5
