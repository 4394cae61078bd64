"""The supervisor with stand-in processes: restarts, backoff, crash loops, order and leftovers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from echelon_ops.broker import Health, judge
from echelon_ops.fetch import Answer
from echelon_ops.supervise import (
    LONGEST_DELAY_S,
    PROVED_S,
    Child,
    Spec,
    Supervisor,
    answer,
    readable,
    shorten,
    tail,
)
from support.eventually import eventually


def spec(tmp_path: Path, code: str, *, name: str = "stand-in", fatal: frozenset[int] = frozenset()) -> Spec:
    return Spec(name, (sys.executable, "-c", code), dict(os.environ), tmp_path / f"{name}.log", fatal)


class Watched:
    """A supervisor and what it said."""

    def __init__(self, *specs: Spec) -> None:
        self.said: list[str] = []
        self.ended: list[tuple[str, int]] = []
        self.supervisor = Supervisor(
            specs,
            tell=self.said.append,
            changed=lambda: None,
            fatal=lambda child, code: self.ended.append((child.spec.name, code)),
        )

    def __getitem__(self, name: str) -> Child:
        return self.supervisor.children[name]

    async def until(self, true: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Supervise until something holds."""
        self.supervisor.start()
        watching = asyncio.create_task(self.supervisor.watch())
        try:
            await eventually(true, timeout_s=timeout_s)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    watched = Watched(spec(tmp_path, "import time; time.sleep(60)"))
    try:
        pids: list[int] = []

        def killed_once() -> bool:
            child = watched["stand-in"]
            if child.alive() and child.pid not in pids:
                pids.append(child.pid)
                if len(pids) == 1:
                    os.kill(child.pid, signal.SIGKILL)
            return len(pids) == 2

        await watched.until(killed_once)
        assert watched.said == ["stand-in was killed by SIGKILL; it is started again."]
    finally:
        watched.supervisor.kill_all()


async def test_one_that_keeps_dying_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    watched = Watched(spec(tmp_path, "raise SystemExit('no disk')"))
    try:
        await watched.until(lambda: len(watched.said) == 3)
        assert "keeps dying (3 times in a row)" in watched.said[2]
        assert watched.said[2].splitlines()[-1].strip() == "no disk"
    finally:
        watched.supervisor.kill_all()


async def test_an_exit_that_no_restart_mends_ends_it(tmp_path: Path) -> None:
    watched = Watched(spec(tmp_path, "raise SystemExit(2)", fatal=frozenset({2})))
    await watched.until(lambda: bool(watched.ended))
    assert watched.ended == [("stand-in", 2)]
    assert watched["stand-in"].deaths == 1


async def test_what_drains_may_end_and_what_does_not_is_killed(tmp_path: Path) -> None:
    ready = "open({!r}, 'w').close(); "
    drains = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); "
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); "
    flags = [str(tmp_path / "a"), str(tmp_path / "b")]
    watched = Watched(
        spec(tmp_path, drains + ready.format(flags[0]) + "time.sleep(60)", name="drains"),
        spec(tmp_path, stubborn + ready.format(flags[1]) + "time.sleep(60)", name="stubborn"),
    )
    await watched.until(lambda: all(map(os.path.exists, flags)))
    begun = time.monotonic()
    assert await watched.supervisor.stop(["drains", "stubborn"], 0.3) == ["stubborn"]
    assert time.monotonic() - begun < 3
    assert not any(child.alive() for child in watched.supervisor.children.values())


async def test_what_a_dead_process_left_in_its_group_is_killed(tmp_path: Path) -> None:
    """The grandchild keeps nothing from ending, and does not outlive."""
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); sys.exit(0)"
    )
    watched = Watched(spec(tmp_path, code))
    await watched.until(lambda: watched["stand-in"].deaths > 0)
    watched.supervisor.kill_all()
    left = int((tmp_path / "pid").read_text())
    await eventually(lambda: not exists(left), timeout_s=5)


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    """kill -9 of the supervisor: the kernel ends what asked for it, also when it was only just starting."""
    stand_in = (
        "from echelon_infra.process import die_with_parent; die_with_parent();"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid()));"
        "import time; time.sleep(60)"
    )
    supervisor = (
        "import os, sys, time; from pathlib import Path; from echelon_ops.supervise import Child, Spec\n"
        f"child = Child(Spec('x', (sys.executable, '-c', {stand_in!r}), dict(os.environ), Path('x.log')))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", supervisor], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    while exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not exists(pid)


@pytest.mark.parametrize("code", [1, -9, 0])
def test_backoff_doubles_to_its_limit_and_forgets_after_a_while(code: int) -> None:
    in_a_row, delays = 0, []
    for _ in range(12):
        said = answer(0.1, in_a_row, code)
        in_a_row = said.in_a_row
        delays.append(said.delay_s)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == LONGEST_DELAY_S
    assert answer(PROVED_S, in_a_row, code).delay_s == 0.1


def test_being_deposed_is_no_crash() -> None:
    assert not any(answer(0.1, n, 70).loud for n in range(20))


def test_a_crash_loop_is_shown_and_then_only_at_times() -> None:
    loud = [n + 1 for n in range(40) if answer(0.0, n, 1).loud]
    assert loud == [3, 10, 20, 30, 40]


def test_a_server_that_recovers_is_let_be() -> None:
    recovering = Answer(503, b'{"status":"unavailable","error":"JetStream is not current"}')
    health = Health()
    for look in range(100):
        health, why = judge(health, recovering, look * 5.0)
        assert why == ""


def test_a_frozen_server_is_restarted_ever_more_slowly() -> None:
    frozen = Answer(503, b'{"status":"error","error":"JetStream stream: write error: no space left"}')
    health, restarts = Health(), []
    for now in range(0, 1000, 5):
        health, why = judge(health, frozen, float(now))
        if why:
            restarts.append(now)
    assert restarts == [0, 30, 90, 210, 450, 930]
    assert judge(health, Answer(200, b"ok"), 0.0)[0] == Health()


def test_a_silent_server_is_given_half_a_minute() -> None:
    health, looks = Health(), 0
    why = ""
    while not why:
        health, why = judge(health, None, 0.0)
        looks += 1
    assert looks == 6


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with open(log, "wb") as file:
        file.truncate(40 * 1024 * 1024)
    shorten(log)
    assert not log.exists() and (tmp_path / "web.old.log").exists()


def test_last_lines_are_readable(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text(
        "garbage\n"
        '{"at":"2026-11-21T12:00:00.000Z","level":"critical","tier":"process","event":"uncaught",'
        '"exception":"Traceback\\n  File \\"x.py\\"\\nImportError: no"}\n'
    )
    assert tail(log).splitlines() == [
        "    garbage",
        "    12:00:00 critical process: uncaught",
        "    Traceback",
        '      File "x.py"',
        "    ImportError: no",
    ]
    assert readable("[1, 2]") == "[1, 2]"
