"""`echelon submit`: one task, and if wanted its end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from echelon.wire.codec import BadJson, strict_json
from echelon_infra.process import STOPPED_AT_ONCE
from echelon_ops.cli.api import Api, quoted
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, json_option, url_option
from echelon_ops.cli.output import Failure, note, show_json
from echelon_ops.cli.tasks import failure_of

FAILED: Final = 1
TIMED_OUT: Final = 7
_ENDED: Final = ("completed", "failed", "cancelled")
_FIRST_LOOK_S: Final = 0.02
_SLOWEST_LOOK_S: Final = 0.5


@command(
    epilog=exits(
        "0 submitted, or completed",
        "1 the task failed",
        "2 bad input",
        "3 refused",
        "5 no server",
        "7 timed out waiting",
    )
)
@click.argument("task_type", metavar="TYPE")
@click.argument("payload", metavar="[PAYLOAD]", required=False)
@click.option("--id", "task_id", metavar="ID", help="Its id; the same again is the same task. [made]")
@click.option("--priority", metavar="1..10", help="10 first; critical high normal low. [5]")
@click.option("--depends-on", metavar="ID", multiple=True, help="Wait for this task; may be repeated.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Of one run. [300]")
@click.option("--retries", type=int, metavar="N", help="Runs after the first. [3]")
@click.option("--tag", metavar="TAG", multiple=True, help="To find it by; may be repeated.")
@click.option("--region", metavar="NAME", help="Run it there. [wherever there is room]")
@click.option("--pool", metavar="NAME", help="Run it by workers of this pool. [default]")
@click.option("--wait", is_flag=True, help="Wait for its end and print its result.")
@click.option("--wait-timeout", type=float, metavar="SECONDS", help="How long. [for ever]")
@json_option
@url_option
def submit(wait: bool, wait_timeout: float | None, as_json: bool, url: str | None, **given: Any) -> int:
    """Submit a task; prints its id, or with --wait its result.

    The payload is JSON: an object gives the handler's arguments by name, anything else the one it has. @FILE
    reads it from a file, - from standard input.

    \b
    $ echelon submit add '{"a": 2, "b": 3}' --wait
    $ echelon submit DATA_PROCESSING '"sample data"' --priority high
    """
    body = body_of(given)
    api = Api(url)
    found = api.post("/tasks", body)
    if not wait and wait_timeout is None:
        show_json(found) if as_json else print(found["task_id"])
        return 0
    task_id = found["task_id"]
    try:
        ended = _until_ended(api, task_id, wait_timeout)
    except KeyboardInterrupt:
        note(f"Task {task_id} goes on. `echelon task {task_id}` shows it.")
        return STOPPED_AT_ONCE
    if as_json:
        show_json(ended)
    elif ended["status"] == "completed":
        print(json.dumps(ended["result"], ensure_ascii=False))
    else:
        why = failure_of(ended["error"]) if ended.get("error") else ended["status"]
        note(f"Task {task_id} {ended['status']}: {why}")
    return 0 if ended["status"] == "completed" else FAILED


def body_of(given: dict[str, Any]) -> dict[str, Any]:
    """The request: only what was given, so that the server's defaults hold.

    Raises:
        Failure: the payload is no JSON, or its file cannot be read.
    """
    body: dict[str, Any] = {"task_type": given["task_type"]}
    if given["payload"] is not None:
        body["payload"] = _payload(given["payload"])
    if (priority := given["priority"]) is not None:
        body["priority"] = int(priority) if priority.lstrip("-").isdigit() else priority
    for name in ("task_id", "timeout", "retries", "region", "pool"):
        if given[name] is not None:
            body[name] = given[name]
    if given["depends_on"]:
        body["dependencies"] = list(given["depends_on"])
    if given["tag"]:
        body["tags"] = list(given["tag"])
    return body


def _payload(text: str) -> Any:
    if text == "-":
        raw = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            raw = Path(text[1:]).read_bytes()
        except OSError as error:
            raise Failure(f"payload: {text[1:]}: {error.strerror}.") from None
    else:
        raw = text.encode()
    try:
        return strict_json(raw)
    except BadJson as error:
        hint = "" if text[:1] in "{[@-" else f""" A string needs quotes of its own: '"{text[:40]}"'."""
        raise Failure(f"payload: this is no JSON: {error}{hint}") from None


def _until_ended(api: Api, task_id: str, timeout_s: float | None) -> Any:
    until = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_LOOK_S
    while True:
        found = api.get(f"/tasks/{quoted(task_id)}")
        if found["status"] in _ENDED:
            return found
        if until is not None and time.monotonic() + pause_s > until:
            raise Failure(
                f"Task {task_id} is {found['status']} after {timeout_s:g} s. It goes on; "
                f"`echelon task {task_id}` shows it.",
                TIMED_OUT,
            )
        time.sleep(pause_s)
        pause_s = min(_SLOWEST_LOOK_S, pause_s * 1.5)
