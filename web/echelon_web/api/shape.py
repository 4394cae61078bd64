"""A task, a worker, a region as JSON: founding keys, always there and null until true, and ours beside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from echelon.wire.api import DEFAULTS
from echelon.wire.names import id_of
from echelon_core.life import Stage, status
from echelon_core.reasons import Reason
from echelon_web.fleet import Fleet, Region, Worker
from echelon_web.readmodel.query import Attempt, Task

_CHARGED: Final = ("success", "failure", "timeout")
_SAID: Final = {
    "dependency_failed": ("DependencyFailed", "Dependency {detail!r} did not complete."),
    "poison": ("Poison", "Its workers were lost {losses} times while it ran."),
    "lost": ("WorkerLost", "Its worker was lost."),
    "timeout": ("Timeout", "It ran longer than its timeout."),
}


def moment(at: float) -> str | None:
    """RFC 3339 with Z.

    >>> moment(0), moment(1.5)
    (None, '1970-01-01T00:00:01.500Z')
    """
    if at <= 0:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_json(
    task: Task,
    now: float,
    reason: Reason | None,
    *,
    result: bytes | None = None,
    dependencies: list[str] | None = None,
) -> dict[str, Any]:
    """`result`: JSON text, for a completed task whose result is at hand; None otherwise."""
    row, said = task.row, task.submitted
    stage = task.stage(now)
    options = said.options or DEFAULTS
    newest = _newest_error(task)
    made: dict[str, Any] = {
        "task_id": task.id,
        "task_type": task.type,
        "status": status(stage),
        "stage": stage,
        "worker_id": row.worker,
        "created_at": moment(said.created),
        "started_at": moment(row.started),
        "completed_at": moment(completed_at(task)),
        "result": None if result is None else msgspec.Raw(result),
        "error": error_json(task) if stage in (Stage.FAILED, Stage.EXPIRED) else None,
        "reason": None if reason is None else str(reason),
        "priority": said.priority,
        "attempt": attempt_number(task),
        "retries": options.retries,
        "timeout": options.timeout_s,
        "region": row.region or row.run_region or None,
        "pool": options.pool,
        "tags": options.tags,
        "dependencies": dependencies or [],
        "next_run_at": moment(row.due) if stage is Stage.RETRYING else None,
        "last_error": newest,
    }
    if stage is Stage.COMPLETED and result is None:
        made["result_omitted"] = True
    return made


def attempts_json(task: Task) -> list[dict[str, Any]]:
    return [
        {
            "attempt": number,
            "worker_id": attempt.worker,
            "region": attempt.region,
            "started_at": moment(attempt.started),
            "ended_at": moment(attempt.ended),
            "execution_time_ms": ran_ms(attempt),
            "outcome": attempt.outcome,
            "error": _error(attempt, number),
            "next_run_at": moment(attempt.due),
        }
        for number, attempt in enumerate(task.attempts, 1)
    ]


def ran_ms(attempt: Attempt) -> float | None:
    if attempt.ended and attempt.started:
        return round(max(0.0, attempt.ended - attempt.started) * 1000, 3)
    return None


def completed_at(task: Task) -> float:
    """When the run that ended it did, by its worker's clock; otherwise when its end was stored."""
    row = task.row
    if task.live:
        return 0.0
    if row.end_sequence and row.run_sequence == row.end_sequence and row.run_region == row.end_region:
        return row.run_ended
    return row.ended


def attempt_number(task: Task) -> int:
    """Of the run that is under way or was the last; 0 before the first."""
    if task.live:
        return task.row.charged + 1 if task.row.started else task.row.charged
    charged = sum(attempt.outcome in _CHARGED for attempt in task.attempts)
    return max(task.row.charged, charged)


def error_json(task: Task) -> dict[str, Any]:
    """Why it failed: what the run that ended it said, or what became of it otherwise."""
    row = task.row
    for number, attempt in reversed(list(enumerate(task.attempts, 1))):
        if row.end_sequence and attempt.sequence == row.end_sequence and attempt.region == row.end_region:
            if (error := _error(attempt, number)) is not None:
                return error
    if row.cause not in _SAID and (newest := _newest_error(task)) is not None:
        return newest
    kind, message = _SAID.get(row.cause or "", ("Failed", "It ended with cause {cause!r}."))
    if row.stage is Stage.EXPIRED:
        kind, message = "Expired", "It was not begun in time."
    filled = message.format(cause=row.cause, detail=row.detail, losses=row.losses)
    return {"type": kind, "message": filled, "traceback": "", "attempt": len(task.attempts)}


def _newest_error(task: Task) -> dict[str, Any] | None:
    for number, attempt in reversed(list(enumerate(task.attempts, 1))):
        if (error := _error(attempt, number)) is not None:
            return error
    return None


def _error(attempt: Attempt, number: int) -> dict[str, Any] | None:
    if attempt.type is None:
        return None
    return {
        "type": attempt.type,
        "message": (attempt.message or "")[:500],
        "traceback": attempt.traceback or "",
        "attempt": number,
    }


def worker_json(worker: Worker, names: Mapping[int, str], now: float) -> dict[str, Any]:
    """`names`: the ids of the tasks that it says it runs."""
    info = worker.info
    return {
        "worker_id": info.id,
        "region": info.region,
        "pool": info.pool,
        "status": worker.state,
        "slots": info.slots,
        "busy": info.busy,
        "current_tasks": [names.get(ref) or id_of(ref) for ref in info.running],
        "task_types": sorted(info.types),
        "host": info.host,
        "pid": info.pid,
        "cpu_usage": info.cpu,
        "memory_usage": info.memory,
        "started_at": moment(info.started_at),
        "seen_s_ago": round(max(0.0, now - worker.at), 1),
        "version": info.version,
    }


def region_json(name: str, region: Region | None, fleet: Fleet, now: float) -> dict[str, Any]:
    living = fleet.living(name)
    made: dict[str, Any] = {
        "region": name,
        "status": "unknown" if region is None else "silent" if region.silent(now) else "up",
        "workers": len(living),
        "slots": sum(worker.slots for worker in living),
        "busy": sum(worker.busy for worker in living),
        "task_types": sorted({kind for worker in living for kind in worker.info.types}),
    }
    if region is not None:
        room = region.room
        made |= {
            "epoch": room.epoch,
            "waiting": room.waiting,
            "outstanding": room.outstanding,
            "retrying": room.retrying,
            "credit": room.credit,
            "completed_per_s": round(room.rate, 1),
            "seen_s_ago": round(max(0.0, now - region.at), 1),
        }
    return made
