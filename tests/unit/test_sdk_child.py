"""A child, as a real process over its socket: whatever a handler does ends in one recorded outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.wire.child import (
    ERROR,
    FATAL,
    OK,
    Input,
    Kind,
    Run,
)
from echelon.wire.names import INLINE_BYTES, id_of
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


def test_it_says_what_it_offers() -> None:
    with child(APP) as running:
        hello = running.hello()
    assert hello.pid == running.process.pid
    lanes = {info.name: info.lane for info in hello.types}
    assert (lanes["add"], lanes["sync.add"]) == ("async", "sync")


def test_results_are_json(shared: ChildProcess) -> None:
    assert shared.result("add", b'{"a":1,"b":2}') == 3.0
    assert shared.result("add", b'{"a":1}') == 1.5
    assert shared.result("give", b'{"kind":"none"}') is None
    assert shared.result("give", b'{"kind":"set"}') == [1]


def test_times_are_wall_clock_and_ordered(shared: ChildProcess) -> None:
    before = time.time()
    ran = shared.one("sleeps", b'{"seconds":0.01}')
    assert before - 0.1 <= ran.started <= ran.ended - 0.009 <= time.time()


def test_a_bundle_is_answered_in_one_frame_and_each_run_once(shared: ChildProcess) -> None:
    before = shared.frames
    runs = [Run(k, k + 1, "add", b'{"a":%d}' % k, 300.0, 1) for k in range(64)]
    ran = shared.run(*runs)
    assert shared.frames - before == 1
    assert [(r.ref, r.run, r.status, json.loads(r.result)) for r in ran] == [
        (k, k + 1, OK, k + 0.5) for k in range(64)
    ]


def test_both_lanes_run_both_kinds(either: ChildProcess) -> None:
    """While two releases run, a type may come to the other lane."""
    assert either.result("add", b'{"a":1}') == 1.5
    assert either.result("sync.add", b'{"a":1}') == 1.5
    assert either.result("sleeps", b'{"seconds":0}') == "slept"


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (b'{"a":"x","b":[]}', ("a: Expected `int`", "b: Expected `float`")),
        (b"{}", ("a: This argument is required",)),
        (b'{"a":1,"c":2}', ("c: There is no such argument",)),
        (b'{"a":1.5}', ("a: Expected `int`",)),
        (b"[1]", ("a: Expected `int`",)),
        (b'{"a":', ("payload",)),
    ],
)
def test_arguments_that_do_not_fit_are_fatal(
    either: ChildProcess, payload: bytes, fields: tuple[str, ...]
) -> None:
    ran = either.one("add", payload)
    assert ran.status == FATAL
    assert ran.error is not None
    assert ran.error.type == "BadArguments"
    assert all(field in ran.error.message for field in fields), ran.error.message


def test_payloads_that_are_no_object_are_one_argument(shared: ChildProcess) -> None:
    assert shared.result("one", b'"sample data"') == "sample data"
    assert shared.result("one", b" [1,2] ") == [1, 2]
    assert shared.result("one", b'{"value": {"a": 1}}') == {"a": 1}
    assert shared.one("one", b"null").status == FATAL
    assert shared.result("anything", b'{"self": 1, "ctx": 2, "task_id": 3}') == {
        "self": 1,
        "ctx": 2,
        "task_id": 3,
    }


def test_an_unknown_type_is_fatal(either: ChildProcess) -> None:
    ran = either.one("nobody")
    assert (ran.status, ran.error and ran.error.type) == (FATAL, "NoHandler")


@pytest.mark.parametrize(
    ("name", "status", "kind", "message"),
    [
        ("raises", ERROR, "ValueError", "told"),
        ("raises.later", ERROR, "ValueError", "later"),
        ("raises.rude", ERROR, "child_app.Rude", "raised another exception"),
        ("raises.exit", ERROR, "SystemExit", "3"),
        ("raises.interrupt", ERROR, "KeyboardInterrupt", ""),
        ("raises.fatal", FATAL, "echelon.running.Fatal", "never again"),
    ],
)
def test_what_is_raised_is_recorded(
    either: ChildProcess, name: str, status: int, kind: str, message: str
) -> None:
    ran = either.one(name)
    assert ran.error is not None
    assert (ran.status, ran.error.type) == (status, kind)
    assert message in ran.error.message
    assert "child_app.py" in ran.error.traceback
    assert "echelon/child" not in ran.error.traceback
    assert either.result("add", b'{"a":1}') == 1.5


def test_a_cause_is_in_the_traceback_and_long_messages_are_cut(shared: ChildProcess) -> None:
    ran = shared.one("raises")
    assert ran.error is not None
    assert "KeyError: 'k'" in ran.error.traceback
    long = shared.one("raises.long")
    assert long.error is not None
    assert len(long.error.message) == 500
    assert "in deep" in long.error.traceback


def test_a_plain_function_that_raises_stop_iteration(either: ChildProcess) -> None:
    ran = either.one("raises.stop")
    assert ran.status == ERROR


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("object", "result[1].a: Of type object"),
        ("nan", "result.x: nan"),
        ("loop", "within itself"),
        ("big", "64 bits"),
        ("keys", "key of type tuple"),
        ("half", "surrogates"),
    ],
)
def test_a_result_that_json_cannot_say_is_fatal_and_named(shared: ChildProcess, kind: str, said: str) -> None:
    ran = shared.one("give", b'{"kind":"%s"}' % kind.encode())
    assert ran.error is not None
    assert (ran.status, ran.error.type) == (FATAL, "UnencodableResult")
    assert said in ran.error.message


def test_large_results_have_a_frame_of_their_own(either: ChildProcess) -> None:
    runs = [Run(1, 1, "give", b'{"kind":"long"}', 9.0, 1), Run(2, 1, "add", b'{"a":1}', 9.0, 1)]
    either.give(runs)
    kinds = []
    while not kinds or kinds[-1][0] != Kind.DONE:
        kind, _, count, body = either.read()
        kinds.append((kind, count, len(body) > INLINE_BYTES))
    assert kinds == [(Kind.LARGE, 1, True), (Kind.DONE, 1, False)]


def test_results_above_the_limit_are_refused() -> None:
    with child(APP) as running:
        running.hello()
        ran = running.one("give", b'{"kind":"huge"}')
    assert ran.error is not None
    assert (ran.status, ran.error.type) == (FATAL, "ResultTooLarge")


def test_prints_do_not_disturb_the_socket(either: ChildProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert either.result("prints") is None


def test_a_handler_may_close_stdout() -> None:
    with child(APP, "sync") as running:
        running.hello()
        assert running.result("closes") is None
        assert running.result("sync.add", b'{"a":1}') == 1.5
        running.send(Kind.DRAIN)
        assert running.process.wait(10) == 0


def test_the_context_knows_the_run(either: ChildProcess) -> None:
    inputs = [Input("task-a", 5, "east", 9, b'{"n":1}')]
    [ran] = either.run(Run(1024, 1030, "who", b"", 300.0, 3, "mine", inputs=inputs))
    assert json.loads(ran.result) == ["mine", 3, id_of(1024), {"task-a": {"n": 1}}, True, False]
    [ran] = either.run(Run(1024, 1031, "who", b"", 300.0, 4))
    assert json.loads(ran.result)[:3] == [id_of(1024), 4, id_of(1024)]
    assert either.result("unannotated", b'{"x":1}') == [1, 2, id_of(1024)]
    assert either.one("unannotated", b'{"x":1,"ctx":2}').status == FATAL
    assert either.result("within_thread") == [id_of(1024)]


def test_results_of_dependencies_are_put_into_the_payload(either: ChildProcess) -> None:
    inputs = [Input("task-a", 5, "east", 9, b'{"n":[7]}'), Input("b", 6, "east", 9, b"1")]
    payload = b'{"x":"result_from_task_a","y":[{"$result":"task-a","path":"/n/0"}],"z":"result_from_c",'
    payload += b'"w":{"$result":"b"}}'
    [ran] = either.run(Run(1, 1, "anything", payload, 300.0, 1, inputs=inputs))
    assert json.loads(ran.result) == {"x": {"n": [7]}, "y": [7], "z": "result_from_c", "w": 1}
    [ran] = either.run(Run(1, 1, "anything", payload, 300.0, 1, inputs=inputs, resolve=False))
    assert json.loads(ran.result) == json.loads(payload)
    [ran] = either.run(Run(1, 1, "anything", payload, 300.0, 1))
    assert json.loads(ran.result) == json.loads(payload)
    [ran] = either.run(Run(1, 1, "anything", b'{"x":{"$result":"zz"}}', 300.0, 1, inputs=inputs))
    assert ran.status == FATAL
    assert ran.error is not None
    assert "x: 'zz' is no dependency" in ran.error.message
