"""The command line on a whole Echelon that runs: what people type, what they get, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from echelon_ops.folder import running

ECHELON = str(Path(sys.executable).with_name("echelon"))
EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("ECHELON_")}


def echelon(folder: Path, *line: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ECHELON, *line], cwd=folder, env=ENVIRON, capture_output=True, text=True, timeout=timeout_s
    )


class Up:
    """`echelon up` in a folder, with whatever it started."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.said = folder / f"up-{time.monotonic_ns()}.txt"
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                [ECHELON, "up", "--port", "0", "--regions", "1", *more],
                cwd=folder,
                env=ENVIRON,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.family: list[psutil.Process] = []

    def until(self, true: Callable[[], object], what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            assert self.process.poll() is None, f"up ended:\n{self.said.read_text()}"
            assert time.monotonic() < deadline, f"{what}, not after {timeout_s} s:\n{self.said.read_text()}"
            time.sleep(0.05)

    def ready(self) -> None:
        self.until(lambda: "Ready after" in self.said.read_text(), "ready")
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def left(self) -> list[psutil.Process]:
        return [each for each in self.family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def gone(up: Up, timeout_s: float = 3.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while up.left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not up.left()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    made = Up(tmp_path_factory.mktemp("up"))
    try:
        made.ready()
        yield made
        made.signal(signal.SIGTERM)
        assert made.ended(10) == 0, made.said.read_text()
        assert gone(made)
        assert running(made.folder / ".echelon") is None
    finally:
        made.end()


def test_submit_waits_and_prints_the_result(up: Up) -> None:
    done = echelon(up.folder, "submit", "add", '{"a": 2, "b": 3}', "--wait", "--wait-timeout", "20")
    assert (done.returncode, json.loads(done.stdout)) == (0, 5), done.stderr


def test_the_same_id_is_the_same_task_and_another_content_is_a_conflict(up: Up) -> None:
    line = ["submit", "add", '{"a": 1, "b": 1}', "--id", "once"]
    assert [echelon(up.folder, *line).stdout for _ in range(2)] == ["once\n", "once\n"]
    other = echelon(up.folder, "submit", "add", '{"a": 9, "b": 1}', "--id", "once")
    assert other.returncode == 3


def test_a_failure_is_recorded_shown_and_run_again(up: Up) -> None:
    line = ["submit", "fail", '{"message": "on purpose"}', "--retries", "0", "--id", "fails", "--wait"]
    done = echelon(up.folder, *line)
    assert done.returncode == 1
    assert "RuntimeError: on purpose" in done.stderr
    shown = echelon(up.folder, "task", "fails").stdout
    assert shown.startswith("fails  failed") and "RuntimeError" in shown
    again = echelon(up.folder, "retry", "fails", "--json")
    assert again.returncode == 0, again.stderr
    assert echelon(up.folder, "retry", "nobody").returncode == 4


def test_what_waits_is_cancelled(up: Up) -> None:
    echelon(up.folder, "submit", "nobody.offers.this", "--id", "waits")
    shown = json.loads(echelon(up.folder, "task", "waits", "--json").stdout)
    assert shown["status"] == "pending" and shown["reason"]
    done = echelon(up.folder, "cancel", "waits")
    assert (done.returncode, done.stdout) == (0, "waits  cancelled\n"), done.stderr


def test_bad_input_is_refused_by_field(up: Up) -> None:
    done = echelon(up.folder, "submit", "add", "--priority", "99", "--timeout", "-1")
    assert done.returncode == 2
    assert "priority:" in done.stderr and "timeout:" in done.stderr


def test_lists(up: Up) -> None:
    echelon(up.folder, "submit", "noop", "--wait")
    assert "noop" in echelon(up.folder, "tasks", "--limit", "5").stdout
    (worker,) = [json.loads(line) for line in echelon(up.folder, "workers", "--json").stdout.splitlines()]
    assert worker["region"] == "east"
    assert echelon(up.folder, "regions").stdout.splitlines()[1].split()[:2] == ["east", "up"]


def test_the_doctor_finds_nothing(up: Up) -> None:
    done = echelon(up.folder, "doctor", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout
    assert {"processes", "server", "streams", "clock", "master", "region", "workers", "web"} <= {
        finding["about"] for finding in found
    }
    assert not [finding for finding in found if finding["state"] == "bad"]


def test_a_second_one_in_the_same_folder_is_refused(up: Up) -> None:
    done = echelon(up.folder, "up", "--port", "0")
    assert done.returncode == 3
    assert str(up.process.pid) in done.stderr
    assert echelon(up.folder, "reset", "--yes").returncode == 3


def test_a_killed_one_leaves_nothing_and_the_next_goes_on(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        up.ready()
        assert (
            echelon(tmp_path, "submit", "add", '{"a": 1, "b": 2}', "--id", "kept", "--wait").returncode == 0
        )
        address = running(tmp_path / ".echelon")
        up.process.kill()
        up.process.wait()
        assert gone(up)
        up = Up(tmp_path)
        up.ready()
        again = running(tmp_path / ".echelon")
        assert address is not None and again is not None
        assert again.nats_url == address.nats_url or "is taken" in up.said.read_text()
        assert json.loads(echelon(tmp_path, "task", "kept", "--json").stdout)["result"] == 3
    finally:
        up.end()
    assert gone(up)


def test_the_example_of_the_readme_and_two_sigints_that_are_one(tmp_path: Path) -> None:
    example = tmp_path / "emails"
    shutil.copytree(EXAMPLES / "emails", example)
    up = Up(tmp_path, "--app", str(example / "tasks.py"))
    try:
        up.ready()
        line = [sys.executable, str(example / "welcome.py"), "ada@example.org", "nobody"]
        done = subprocess.run(line, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "'to': 'ada@example.org', 'lines': 2" in done.stdout
        assert done.stderr == "nobody: 'nobody' is no address\n"
        up.signal(signal.SIGINT)
        up.signal(signal.SIGINT)
        assert up.ended(10) == 0, up.said.read_text()
        assert gone(up)
    finally:
        up.end()


def test_a_port_that_was_asked_for_and_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = echelon(tmp_path, "up", "--port", str(port))
    assert done.returncode == 3
    assert f"Port {port}" in done.stderr
    assert running(tmp_path / ".echelon") is None
