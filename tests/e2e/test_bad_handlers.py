"""Whatever a handler does, it ends in a recorded failure with type and message, and harms nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from support.cluster import Cluster

FAILURES: dict[str, tuple[str, str]] = {  # task type -> what the error's type and message contain
    "raises": ("ValueError", "asked to"),
    "raises_async": ("LookupError", "asked to"),
    "unencodable": ("", "object"),
    "unencodable_async": ("", "function"),
    "exits": ("SystemExit", "3"),
    "exits_hard": ("", "3"),
    "segfaults": ("", "SIGSEGV"),
    "segfaults_async": ("", "SIGSEGV"),
    "blocks_for_ever": ("Timeout", "1"),
    "blocks_the_loop": ("Timeout", "1"),
    "sleeps_for_ever": ("Timeout", "1"),
    "will_not_be_cancelled": ("Timeout", "1"),
    "recursion": ("RecursionError", ""),
    "raises_unspeakably": ("Unspeakable", ""),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_it_ends_in_a_recorded_failure(shared: Cluster, kind: str) -> None:
    timeout = 1 if FAILURES[kind][0] == "Timeout" else 30
    status, task = await shared.post("/api/tasks", {"task_type": kind, "retries": 0, "timeout": timeout})
    assert status == 202
    ended = await shared.ended(task["task_id"])
    error = ended["error"]
    assert ended["status"] == "failed" and ended["result"] is None
    of_type, message = FAILURES[kind]
    assert of_type in error["type"] and message in error["message"], error
    assert error["type"] and error["attempt"] == 1 and len(error["message"]) <= 500


@pytest.mark.parametrize("kind", ["raises", "raises_async", "recursion", "raises_unspeakably"])
async def test_what_was_raised_has_its_traceback(shared: Cluster, kind: str) -> None:
    _, task = await shared.post("/api/tasks", {"task_type": kind, "retries": 0})
    error = (await shared.ended(task["task_id"]))["error"]
    assert "app.py" in error["traceback"], error


async def test_what_it_prints_is_no_result_and_breaks_nothing(shared: Cluster) -> None:
    _, task = await shared.post("/api/tasks", {"task_type": "prints"})
    ended = await shared.ended(task["task_id"])
    assert (ended["status"], ended["result"]) == ("completed", "printed")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("add", {"a": "one"}),
        ("add", {}),
        ("add", {"a": 1, "c": 2}),
        ("add", [1, 2]),
        ("echo", {"nothing": 1}),
    ],
)
async def test_arguments_that_do_not_fit_fail_at_once_and_are_not_retried(
    shared: Cluster, kind: str, payload: Any
) -> None:
    _, task = await shared.post("/api/tasks", {"task_type": kind, "payload": payload, "retries": 5})
    ended = await shared.ended(task["task_id"])
    assert ended["status"] == "failed" and ended["error"]["attempt"] == 1, ended


async def test_neighbours_of_a_crash_are_unharmed(shared: Cluster) -> None:
    """Those that share the dead child run again and are not charged."""
    sleepers = [{"task_type": "sleeps", "payload": {"seconds": 0.7}, "retries": 0} for _ in range(40)]
    crash = {"task_type": "segfaults_async", "retries": 0}
    _, answer = await shared.post("/api/tasks", [*sleepers[:20], crash, *sleepers[20:]])
    ended = [await shared.ended(task["task_id"], timeout_s=30) for task in answer["items"]]
    assert [task["status"] for task in ended].count("failed") == 1 and ended[20]["status"] == "failed"
    assert all(task["attempt"] == 1 for task in ended)
