"""A child, as a real process over its socket: whatever a handler does ends in one recorded outcome."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.wire.child import (
    CANCELLED,
    ERROR,
    FATAL,
    HANDED_BACK,
    OK,
    RETIRED,
    TIMEOUT,
    Input,
    Kind,
    Run,
)
from echelon.wire.names import INLINE_BYTES, id_of
from support.child_process import ChildProcess, child

APP = """
import asyncio, contextvars, os, sys, threading, time
from typing import Any
import echelon
from echelon import Context, Fatal, task

class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no text from me")

var = contextvars.ContextVar("var", default="fresh")

@task
async def add(a: int, b: float = 0.5) -> float:
    return a + b

@task(name="sync.add")
def sync_add(a: int, b: float = 0.5) -> float:
    return a + b

async def deep():
    raise ValueError("bad \\ud800 " + "x" * 1000)

@task
async def raises() -> None:
    try:
        {}["k"]
    except KeyError as cause:
        raise ValueError("told") from cause

@task(name="raises.long")
async def raises_long() -> None:
    await deep()

@task(name="raises.later")
async def raises_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("later")

@task(name="raises.rude")
async def rude() -> None:
    raise Rude()

@task(name="raises.exit")
async def exits() -> None:
    sys.exit(3)

@task(name="raises.interrupt")
async def interrupts() -> None:
    await asyncio.sleep(0)
    raise KeyboardInterrupt

@task(name="raises.fatal")
async def fatal() -> None:
    raise Fatal("never again")

@task(name="raises.stop")
def stops() -> None:
    raise StopIteration("from a plain function")

@task
async def give(kind: str) -> Any:
    loop = []
    loop.append(loop)
    return {"object": [1, {"a": object()}], "nan": {"x": float("nan")}, "loop": loop, "big": 2**70,
            "long": "x" * 200_000, "keys": {(1, 2): 3}, "none": None, "set": {1}, "half": "\\ud800",
            "huge": "x" * (65 << 20) if kind == "huge" else ""}[kind]

@task
async def prints() -> None:
    print("hello from the handler")
    print("and to stderr", file=sys.stderr)
    os.write(1, b"raw bytes\\n")

@task
async def who(ctx: Context) -> Any:
    await asyncio.sleep(0)
    here = echelon.context()
    return [ctx.task_id, ctx.attempt, ctx.idempotency_key, dict(ctx.results), here is ctx, ctx.cancelled]

@task
async def unannotated(x: int, ctx, *, y: int = 2) -> Any:
    return [x, y, ctx.task_id]

@task
def within_thread() -> Any:
    got = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: got.append(context.run(echelon.context).task_id))
    thread.start(); thread.join()
    return got

@task
async def variables() -> str:
    before = var.get()
    var.set("set by another")
    await asyncio.sleep(0.01)
    return before + "/" + var.get()

@task
async def anything(**kwargs) -> Any:
    return kwargs

@task
async def one(value: Any) -> Any:
    return value

@task
async def timed() -> Any:
    me = asyncio.current_task()
    async with asyncio.timeout(5):
        await asyncio.sleep(0.01)
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    except TimeoutError:
        pass
    async with asyncio.TaskGroup() as group:
        child = group.create_task(asyncio.sleep(0, "from a child"))
    return [child.result(), asyncio.current_task() is me, me.cancelling()]

@task(name="timed.at_once")
async def timed_at_once() -> Any:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(5)
    except TimeoutError:
        return "timeout"

@task(name="cancels.itself")
async def cancels_itself(swallow: bool) -> Any:
    asyncio.current_task().cancel()
    if not swallow:
        await asyncio.sleep(1)
    return "went on"

@task
async def sleeps(seconds: float = 60.0) -> Any:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if echelon.context().cancelled:
            raise
    return "slept"

@task(name="sleeps.stubborn")
async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

@task(name="sleeps.polite")
async def polite() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "tidied up"
    return ""

@task
async def blocks(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"

@task(name="blocks.sync")
def blocks_sync(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"

@task
def asks(ctx: Context) -> str:
    while not ctx.cancelled:
        time.sleep(0.001)
    return "saw it"

@task
def dies() -> None:
    os._exit(17)

@task
def segfaults() -> None:
    import ctypes
    ctypes.string_at(0)

@task
def forks() -> str:
    if os.fork() == 0:
        return "from the copy"
    return "from the original"

@task
def closes() -> None:
    sys.stdout.close()
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "tasks.py"
    path.write_text(APP)
    return path


@pytest.fixture(scope="module")
def shared(app: Path) -> Iterator[ChildProcess]:
    """One child for all that must leave it unharmed."""
    with child(app) as running:
        running.hello()
        yield running
        assert running.process.poll() is None


@pytest.fixture(params=["async", "sync"])
def either(request: pytest.FixtureRequest, app: Path) -> Iterator[ChildProcess]:
    with child(app, request.param) as running:
        running.hello()
        yield running


def test_it_says_what_it_offers(app: Path) -> None:
    with child(app) as running:
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
        ("raises.rude", ERROR, "tasks.Rude", "raised another exception"),
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
    assert "tasks.py" in ran.error.traceback
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


def test_results_above_the_limit_are_refused(app: Path) -> None:
    with child(app) as running:
        running.hello()
        ran = running.one("give", b'{"kind":"huge"}')
    assert ran.error is not None
    assert (ran.status, ran.error.type) == (FATAL, "ResultTooLarge")


def test_prints_do_not_disturb_the_socket(either: ChildProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert either.result("prints") is None


def test_a_handler_may_close_stdout(app: Path) -> None:
    with child(app, "sync") as running:
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
    payload = b'{"x":"result_from_task_a","y":[{"$result":"task-a","path":"/n/0"}],"z":"result_from_c","w":{"$result":"b"}}'
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


def test_no_more_than_the_slots_at_once(app: Path) -> None:
    with child(app, slots=3) as running:
        running.hello()
        ran = running.run(*[Run(k, 1, "sleeps", b'{"seconds":0.05}', 300.0, 1) for k in range(9)])
        marks = sorted([(r.started, 1) for r in ran] + [(r.ended, -1) for r in ran])
        together, most = 0, 0
        for _, change in marks:
            together += change
            most = max(most, together)
        assert most == 3


def test_an_order_stops_what_runs_and_what_waits(app: Path) -> None:
    with child(app, slots=1) as running:
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


def test_what_will_not_end_is_given_up_and_the_child_replaced(app: Path) -> None:
    with child(app) as running:
        running.hello()
        running.give([Run(1, 5, "sleeps.stubborn", b"", 0.1, 1)])
        running.give([Run(2, 5, "sleeps", b'{"seconds":3}', 300.0, 1), Run(3, 5, "sleeps", b"", 300.0, 1)])
        ran = {r.ref: r.status for r in running.outcomes(2, timeout_s=20)}
        assert ran == {1: TIMEOUT, 2: OK, 3: HANDED_BACK}
        assert running.process.wait(10) == RETIRED


def test_the_page_names_the_run_that_has_the_thread(app: Path) -> None:
    for lane, name in (("sync", "blocks.sync"), ("async", "blocks")):
        with child(app, lane) as running:
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
def test_the_page_names_the_killer_after_the_death(app: Path, name: str) -> None:
    with child(app, "sync") as running:
        running.hello()
        running.give([Run(1, 5, "sync.add", b'{"a":1}', 9.0, 1), Run(2, 5, name, b"", 9.0, 1)])
        running.outcomes()
        running.process.wait(10)
        assert (running.look().busy, running.look().ref) == (True, 2)


def test_a_sync_handler_sees_that_it_was_cancelled(app: Path) -> None:
    with child(app, "sync") as running:
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


def test_drain_finishes_what_runs_and_begins_nothing(app: Path) -> None:
    for lane in ("async", "sync"):
        with child(app, lane, slots=1) as running:
            running.hello()
            running.give([Run(1, 5, "add", b'{"a":1}', 9.0, 1)])
            running.give([Run(k, 5, "sleeps", b'{"seconds":0.3}', 9.0, 1) for k in (2, 3)])
            assert [r.ref for r in running.outcomes()] == [1]
            if lane == "sync":
                running.busy()
            running.send(Kind.DRAIN)
            assert [r.ref for r in running.outcomes()] == [2]
            assert running.process.wait(10) == 0


def test_it_dies_with_its_supervisor(app: Path) -> None:
    for lane in ("async", "sync"):
        with child(app, lane) as running:
            running.hello()
            running.sock.close()
            assert running.process.wait(10) == 0


def test_ctrl_c_is_the_supervisors_affair(either: ChildProcess) -> None:
    os.kill(either.process.pid, signal.SIGINT)
    assert either.result("add", b'{"a":1}') == 1.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from echelon import task\n1/0\n", "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        ("import sys\nsys.exit(4)\n", "SystemExit"),
        ("x = 1\n", "defines no task"),
        (
            "from echelon import task\n@task\ndef a(): ...\n@task(name='a')\ndef b(): ...\n",
            "Two tasks are named 'a'",
        ),
        ("from echelon import task\n@task(priority=99)\ndef a(): ...\n", "99 is not in 1 to 10"),
        ("from echelon import task\n@task\ndef a(): yield 1\n", "yields"),
    ],
)
def test_an_application_that_cannot_be_loaded_says_why(tmp_path: Path, text: str, said: str) -> None:
    app = tmp_path / "tasks.py"
    app.write_text(text)
    with child(app) as running:
        kind, _, _, body = running.read()
        assert kind == Kind.FAILED
        assert said in body.decode()
        assert str(app) in body.decode()
        assert "echelon/child" not in body.decode()
        assert running.process.wait(10) == 2


def test_applications_are_files_or_modules(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "jobs.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        import typing
        from echelon import task
        if typing.TYPE_CHECKING:
            from decimal import Decimal

        @task
        def job(late: Later, unknown: Decimal = None) -> None: ...

        class Later(typing.NamedTuple):
            x: int
        """)
    )
    for app in ("shop.jobs", "shop/jobs.py"):
        with child(app, cwd=tmp_path) as running:
            assert [info.name for info in running.hello().types] == ["job"]
            assert running.result("job", b'{"late":[1],"unknown":"1.5"}') is None
            assert running.one("job", b'{"late":["x"]}').status == FATAL
    with child("no.such.module", cwd=tmp_path) as running:
        assert "No module named" in running.read()[3].decode()
