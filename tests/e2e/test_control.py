"""Cancel, retry, priorities, types that nobody offers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.cluster import Cluster
from support.eventually import eventually


async def stage(shared: Cluster, task_id: str) -> str:
    return str((await shared.get(f"/api/tasks/{task_id}"))["stage"])


async def test_cancel_while_it_waits(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_id": "never-offered", "task_type": "nobody-has-this"})
    status, task = await shared.post("/api/tasks/never-offered/cancel", {"reason": "no use"})
    assert status < 300 and task["status"] == "cancelled"
    assert (await shared.ended("never-offered"))["started_at"] is None


async def test_cancel_in_the_queue_and_while_it_runs_in_a_process_of_its_own(shared: Cluster) -> None:
    """The region has one process for sync tasks: the second waits behind the first."""
    both = [{"task_id": f"sync-{n}", "task_type": "blocks", "region": "east"} for n in (1, 2)]
    await shared.post("/api/tasks", both)
    await eventually(lambda: stage_is(shared, "sync-1", "running"), timeout_s=10, every_s=0.05)
    assert (await shared.post("/api/tasks/sync-2/cancel", {}))[0] < 300
    queued = await shared.ended("sync-2")
    assert queued["status"] == "cancelled" and queued["started_at"] is None
    assert (await shared.post("/api/tasks/sync-1/cancel", {}))[0] < 300
    assert (await shared.ended("sync-1"))["status"] == "cancelled"
    await shared.post("/api/tasks", {"task_id": "sync-3", "task_type": "add", "payload": {"a": 1}})
    assert (await shared.ended("sync-3"))["result"] == 2


async def stage_is(shared: Cluster, task_id: str, wanted: str) -> bool:
    return await stage(shared, task_id) == wanted


async def test_cancel_a_coroutine_while_it_runs(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_id": "co-1", "task_type": "sleeps"})
    await eventually(lambda: stage_is(shared, "co-1", "running"), timeout_s=10, every_s=0.05)
    assert (await shared.post("/api/tasks/co-1/cancel", {}))[0] < 300
    assert (await shared.ended("co-1"))["status"] == "cancelled"


async def test_cancel_of_one_that_has_ended_is_a_conflict_that_shows_it(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_id": "over-1", "task_type": "echo"})
    await shared.ended("over-1")
    status, problem = await shared.post("/api/tasks/over-1/cancel", {})
    assert (status, problem["code"]) == (409, "already_ended")


async def test_retry_gives_a_failed_task_another_series(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_id": "again-1", "task_type": "raises", "retries": 0})
    await shared.ended("again-1")
    status, _ = await shared.post("/api/tasks/again-1/retry", {})
    assert status < 300
    await eventually(lambda: attempts(shared, "again-1", 2), timeout_s=15, every_s=0.05)
    assert (await shared.ended("again-1"))["status"] == "failed"


async def attempts(shared: Cluster, task_id: str, number: int) -> bool:
    return len((await shared.get(f"/api/tasks/{task_id}"))["attempts"]) >= number


async def test_a_failure_is_tried_again_and_counted(shared: Cluster) -> None:
    await shared.post("/api/tasks", {"task_id": "lucky", "task_type": "second_time_lucky"})
    ended = await shared.ended("lucky")
    assert (ended["status"], ended["result"], ended["attempt"], ended["error"]) == ("completed", 2, 2, None)
    assert "not yet" in ended["last_error"]["message"]


async def test_a_type_that_nobody_offers_waits_and_says_why(shared: Cluster) -> None:
    status, task = await shared.post("/api/tasks", {"task_id": "odd", "task_type": "type-of-tomorrow"})
    assert (status, task["status"]) == (202, "pending")
    seen = await shared.get("/api/tasks/odd")
    assert "type-of-tomorrow" in seen["reason"] and "echelon worker" in seen["reason"]


async def test_urgent_ones_overtake_a_backlog(shared: Cluster) -> None:
    """Beyond the short window that is released already, nobody of a lower priority goes first."""
    starts = shared.folder / "starts"
    held = {"task_type": "blocks", "payload": {"seconds": 1}, "region": "west"}
    low = [note(f"low-{n}", 1) for n in range(100)]
    await shared.post("/api/tasks", [held, *low])
    urgent = [note(f"high-{n}", 10) for n in range(10)]
    _, answer = await shared.post("/api/tasks", urgent)
    for task in answer["items"]:
        await shared.ended(task["task_id"])
    order = [line for line in await asyncio.to_thread(lines, starts) if line.startswith(("low-", "high-"))]
    overtaken = order[: order.index("high-9") + 1]
    assert len([name for name in overtaken if name.startswith("low-")]) <= 12, order[:40]
    assert [name for name in order if name.startswith("high-")] == [f"high-{n}" for n in range(10)]


def note(name: str, priority: int) -> dict[str, object]:
    payload = {"name": name}
    return {"task_type": "notes", "payload": payload, "priority": priority, "region": "west"}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
