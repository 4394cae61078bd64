"""`echelon task`, `tasks`, `cancel`, `retry`: tasks by id and as a list."""

from __future__ import annotations

import json
from typing import Any

import click

from echelon_ops.cli.api import Api, quoted
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, json_option, url_option
from echelon_ops.cli.output import Failure, complain, note, show_json, table

_EXIT = exits("0 done", "3 refused", "4 not found", "5 no server")
_ids = click.argument("ids", metavar="ID...", nargs=-1, required=True)


@command(epilog=exits("0 shown", "4 not found", "5 no server"))
@click.argument("task_id", metavar="ID")
@json_option
@url_option
def task(task_id: str, as_json: bool, url: str | None) -> int:
    """Show one task: its status, times, attempts, result or error.

    \b
    $ echelon task task-a
    """
    found = Api(url).get(f"/tasks/{quoted(task_id)}")
    if as_json:
        show_json(found)
    else:
        print(describe(found))
    return 0


@command(epilog=exits("0 shown", "2 bad arguments", "5 no server"))
@click.option("--status", metavar="STATUS", help="pending running completed failed or cancelled.")
@click.option("--limit", type=int, metavar="N", help="How many, newest first. [50; at most 1000]")
@click.option("--offset", type=int, metavar="N", help="How many to pass over.")
@json_option
@url_option
def tasks(status: str | None, limit: int | None, offset: int | None, as_json: bool, url: str | None) -> int:
    """List tasks, newest first.

    \b
    $ echelon tasks --status failed
    """
    found = Api(url).get("/tasks", status=status, limit=limit, offset=offset)
    items = found["items"]
    if as_json:
        for item in items:
            show_json(item)
        return 0
    rows = [
        (item["task_id"], item.get("task_type"), item["status"], item.get("priority"), item["created_at"],
         item.get("worker_id"))
        for item in items
    ]  # fmt: skip
    print(table(("ID", "TYPE", "STATUS", "PRIORITY", "CREATED", "WORKER"), rows))
    total = found.get("total")
    note(f"{len(items)} of {total} tasks" if total is not None else f"{len(items)} tasks")
    return 0


@command(epilog=_EXIT)
@_ids
@json_option
@url_option
def cancel(ids: tuple[str, ...], as_json: bool, url: str | None) -> int:
    """Cancel tasks: what waits never starts, what runs is stopped.

    \b
    $ echelon cancel task-a task-b
    """
    return _each(ids, "cancel", as_json, url)


@command(epilog=_EXIT)
@_ids
@json_option
@url_option
def retry(ids: tuple[str, ...], as_json: bool, url: str | None) -> int:
    """Run failed, cancelled or expired tasks again, with a new series of attempts.

    \b
    $ echelon retry task-a
    """
    return _each(ids, "retry", as_json, url)


def _each(ids: tuple[str, ...], act: str, as_json: bool, url: str | None) -> int:
    """The exit code of the first that was refused; the others are done all the same."""
    api = Api(url)
    code = 0
    for task_id in ids:
        try:
            found = api.post(f"/tasks/{quoted(task_id)}/{act}")
        except Failure as failure:
            complain(failure, as_json=as_json)
            code = code or failure.code
            continue
        if as_json:
            show_json(found)
        else:
            print(f"{found['task_id']}  {found['status']}")
    return code


def describe(task: dict[str, Any]) -> str:
    """A task for a person: what is known of it, line by line."""
    lines = [f"{task['task_id']}  {task['status']}"]
    stage = task.get("stage")
    for name, value in (
        ("stage", stage if stage != task["status"] else None),
        ("reason", _sentence(task.get("reason"))),
        ("type", task.get("task_type")),
        ("priority", task.get("priority")),
        ("region", task.get("region")),
        ("worker", task.get("worker_id")),
        ("tags", ", ".join(task.get("tags") or ())),
        ("created", task["created_at"]),
        ("started", task["started_at"]),
        ("completed", task["completed_at"]),
        ("result", None if task["result"] is None else json.dumps(task["result"], ensure_ascii=False)),
    ):
        if value not in (None, ""):
            lines.append(f"  {name:<10} {value}")
    if error := task.get("error") or task.get("last_error"):
        lines.append(f"  {'error':<10} {failure_of(error)}")
    if attempts := task.get("attempts"):
        rows = [
            (n, run.get("outcome"), run.get("worker_id"), run.get("started_at"), run.get("execution_time_ms"))
            for n, run in enumerate(attempts, 1)
            if isinstance(run, dict)
        ]
        lines.append("")
        lines.append(table(("RUN", "OUTCOME", "WORKER", "STARTED", "MS"), rows))
    return "\n".join(lines)


def failure_of(error: Any) -> str:
    """Type and message, and the traceback below where there is one."""
    if not isinstance(error, dict):
        return str(error)
    said = f"{error.get('type')}: {error.get('message')}"
    trace = error.get("traceback")
    return f"{said}\n\n{trace}" if trace else said


def _sentence(reason: Any) -> str | None:
    if isinstance(reason, dict):
        return str(reason.get("detail") or reason.get("code") or "")
    return None if reason is None else str(reason)
