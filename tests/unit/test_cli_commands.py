"""What commands print and how they exit, against a stand-in for the web node that says what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from echelon_ops.cli.root import run

TASK = {
    "task_id": "t-1",
    "status": "pending",
    "stage": "delegated",
    "task_type": "add",
    "priority": 7,
    "worker_id": None,
    "created_at": "2026-11-21T12:00:00Z",
    "started_at": None,
    "completed_at": None,
    "result": None,
    "error": None,
}
DONE = {**TASK, "status": "completed", "stage": "completed", "result": {"sum": 5}}
FAILED = {
    **TASK,
    "status": "failed",
    "stage": "failed",
    "error": {"type": "ValueError", "message": "no", "traceback": "Traceback\n  line", "attempt": 1},
}


class WebNode:
    """Answers what it was given for a path, in turn; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.asked.append((self.command, self.path, body))
                prepared = outer.answers[self.path.partition("?")[0]]
                status, document = prepared.pop(0) if len(prepared) > 1 else prepared[0]
                text = json.dumps(document).encode()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def on(self, path: str, *answers: tuple[int, Any]) -> None:
        self.answers["/api" + path] = list(answers)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebNode]:
    monkeypatch.chdir(tmp_path)
    made = WebNode()
    monkeypatch.setenv("ECHELON_URL", made.url)
    yield made
    made.close()


def test_submit_prints_the_id_and_sends_only_what_was_given(
    web: WebNode, capsys: pytest.CaptureFixture[str]
) -> None:
    web.on("/tasks", (202, TASK))
    line = ["submit", "add", '{"a": 2, "b": 18446744073709551615}', "--priority", "high", "--id", "x"]
    assert run([*line, "--timeout", "10", "--retries", "0", "--depends-on", "y", "--tag", "t"]) == 0
    assert capsys.readouterr().out == "t-1\n"
    ((method, path, body),) = web.asked
    assert (method, path) == ("POST", "/api/tasks")
    assert body == {
        "task_type": "add",
        "payload": {"a": 2, "b": 18446744073709551615},
        "priority": "high",
        "task_id": "x",
        "timeout": 10.0,
        "retries": 0,
        "dependencies": ["y"],
        "tags": ["t"],
    }


def test_submit_without_a_payload_sends_none(web: WebNode) -> None:
    web.on("/tasks", (202, TASK))
    assert run(["submit", "noop", "--priority", "3"]) == 0
    assert web.asked[0][2] == {"task_type": "noop", "priority": 3}


def test_waiting_prints_the_result(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    web.on("/tasks", (202, TASK))
    web.on("/tasks/t-1", (200, TASK), (200, DONE))
    assert run(["submit", "add", "[1]", "--wait"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sum": 5}


def test_waiting_for_a_failure_exits_1_and_shows_the_traceback(
    web: WebNode, capsys: pytest.CaptureFixture[str]
) -> None:
    web.on("/tasks", (202, TASK))
    web.on("/tasks/t-1", (200, FAILED))
    assert run(["submit", "add", "--wait"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "ValueError: no" in said.err and "Traceback" in said.err


def test_waiting_too_long_exits_7(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    web.on("/tasks", (202, TASK))
    web.on("/tasks/t-1", (200, TASK))
    assert run(["submit", "add", "--wait", "--wait-timeout", "0.05"]) == 7
    assert "It goes on" in capsys.readouterr().err


def problem(status: int, **more: Any) -> tuple[int, Any]:
    return status, {"type": "about:blank", "title": "No", "status": status, "code": "x", **more}


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (404, 4), (409, 3), (413, 2), (422, 2), (429, 3), (503, 5), (401, 3)]
)
def test_a_refusal_becomes_an_exit_code(web: WebNode, status: int, code: int) -> None:
    web.on("/tasks", problem(status, detail="Because."))
    assert run(["submit", "add"]) == code


def test_a_refusal_names_every_field_and_the_mend(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"field": "priority", "code": "priority", "message": "99 is not in 1 to 10."}]
    web.on("/tasks", problem(422, detail="The input is not valid.", errors=errors, mend="Look again."))
    assert run(["submit", "add", "--priority", "99"]) == 2
    said = capsys.readouterr().err
    assert "priority: 99 is not in 1 to 10." in said
    assert "Look again." in said


def test_a_refusal_for_programs_is_the_document(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    web.on("/tasks/none", problem(404, detail="There is no task 'none'."))
    assert run(["task", "none", "--json"]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err)["status"] == 404


@pytest.mark.parametrize(
    ("payload", "word"),
    [("{", "no JSON"), ("text", "quotes of its own"), ("@nowhere.json", "No such file"), ("NaN", "NaN")],
)
def test_a_bad_payload_is_refused_before_anything_is_sent(
    web: WebNode, capsys: pytest.CaptureFixture[str], payload: str, word: str
) -> None:
    assert run(["submit", "add", payload]) == 2
    assert word in capsys.readouterr().err
    assert not web.asked


def test_a_payload_may_come_from_a_file(web: WebNode, tmp_path: Path) -> None:
    web.on("/tasks", (202, TASK))
    (tmp_path / "p.json").write_text('{"text": "ü"}')
    assert run(["submit", "add", f"@{tmp_path / 'p.json'}"]) == 0
    assert web.asked[0][2]["payload"] == {"text": "ü"}


def test_a_task_is_described(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    attempts = [{"outcome": "failure", "worker_id": "w", "started_at": "…", "execution_time_ms": 12}]
    web.on("/tasks/a%2Fb", (200, {**FAILED, "attempts": attempts}))
    assert run(["task", "a/b"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("t-1  failed\n")
    assert "ValueError: no" in said and "failure" in said


def test_a_list_is_a_table_or_json_lines(web: WebNode, capsys: pytest.CaptureFixture[str]) -> None:
    web.on("/tasks", (200, {"items": [TASK, DONE], "total": 7, "next": None, "truncated": False}))
    assert run(["tasks", "--status", "pending", "--limit", "2"]) == 0
    assert web.asked[0][1] == "/api/tasks?status=pending&limit=2"
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["ID", "TYPE", "STATUS", "PRIORITY", "CREATED", "WORKER"]
    assert said.err == "2 of 7 tasks\n"
    assert run(["tasks", "--json"]) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == [
        "pending",
        "completed",
    ]


def test_of_several_cancels_each_is_tried_and_the_first_refusal_tells(
    web: WebNode, capsys: pytest.CaptureFixture[str]
) -> None:
    web.on("/tasks/a/cancel", problem(404, detail="There is no task 'a'."))
    web.on("/tasks/b/cancel", (200, {**TASK, "task_id": "b", "status": "cancelled"}))
    assert run(["cancel", "a", "b"]) == 4
    assert capsys.readouterr().out == "b  cancelled\n"


def test_nothing_answers_says_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["task", "x", "--url", "http://127.0.0.1:1"]) == 5
    assert "Tried: http://127.0.0.1:1 (given)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["sumbit"], "Did you mean submit?"),
        (["submit"], "Missing argument 'TYPE'"),
        (["submit", "x", "--prority", "3"], "--priority"),
        (["tasks", "--limit", "many"], "many"),
        (["up", "--port", "99999"], "--port"),
        (["up", "--regions", "a,a"], "twice"),
        (["up", "--host", "0.0.0.0"], "--insecure"),
        (["web", "--host", "192.168.0.1"], "--insecure"),
        (["up", "--processes", "2..16"], "not built yet"),
        (["worker", "--region", "east"], "--app is missing"),
        (["worker", "--app", "nowhere.py"], "there is no file"),
    ],
)
def test_bad_arguments_exit_2_and_say_what_helps(
    line: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line) == 2
    assert word in capsys.readouterr().err


def test_reset_asks_and_keeps_its_hands_off_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.chdir(tmp_path)
    (data / "mine.txt").touch()
    assert run(["reset", "--data", str(data), "--yes"]) == 2
    assert (data / "mine.txt").exists()
    (data / "format").write_text("1\n")
    monkeypatch.setattr("sys.stdin", open("/dev/null"))
    assert run(["reset", "--data", str(data)]) == 2
    assert run(["reset", "--data", str(data), "--yes", "--json"]) == 0
    assert [path.name for path in data.iterdir()] == ["lock"]
    assert run(["reset", "--data", str(tmp_path / "nowhere"), "--yes"]) == 4


def test_config_names_origins_and_hides_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echelon.toml").write_text("workers = 3")
    monkeypatch.setenv("NATS_URL", "nats://me:secret@host:1")
    assert run(["config", "--json"]) == 0
    rows = {row["key"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (rows["workers"]["value"], rows["workers"]["origin"]) == (3, "echelon.toml")
    assert rows["nats_url"] == {**rows["nats_url"], "value": "nats://host:1", "origin": "environment"}
    assert rows["drain_timeout"]["unit"] == "s"


def test_settings_that_are_wrong_stop_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHELON_WORKRES", "1")
    assert run(["up"]) == 2
    assert "environment: ECHELON_WORKRES" in capsys.readouterr().err
