"""Whoever depends on others begins after them, is given their results, and shares their fate."""

from __future__ import annotations

from typing import Any

from support.cluster import Cluster


def task(own: str, kind: str, after: list[str] | None = None, **payload: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"task_id": own, "task_type": kind, "dependencies": after or [], "retries": 0}
    return {**made, "payload": payload} if payload else made


async def test_a_diamond_in_any_order(shared: Cluster) -> None:
    status, answer = await shared.post(
        "/api/tasks",
        [
            task("dia-end", "gather", ["dia-left", "dia-right"]),
            task("dia-left", "add", ["dia-top"], a=1, b=1),
            task("dia-right", "add", ["dia-top"], a=2, b=2),
            task("dia-top", "echo", value="top"),
        ],
    )
    assert status == 202 and answer["created"] == 4
    ended = await shared.ended("dia-end")
    assert ended["result"] == {"dia-left": 2, "dia-right": 4}
    top, left = await shared.ended("dia-top"), await shared.ended("dia-left")
    assert top["completed_at"] <= left["started_at"] <= left["completed_at"] <= ended["started_at"]


async def test_on_a_task_that_ended_long_ago(shared: Cluster) -> None:
    await shared.post("/api/tasks", task("long-ago", "echo", value=[1]))
    await shared.ended("long-ago")
    await shared.post("/api/tasks", task("afterwards", "gather", ["long-ago"]))
    assert (await shared.ended("afterwards"))["result"] == {"long-ago": [1]}


async def test_a_reference_with_a_path_is_resolved_in_the_worker(shared: Cluster) -> None:
    await shared.post("/api/tasks", task("src", "echo", value={"a": [10, 20]}))
    body = task("use", "add", ["src"], a={"$result": "src", "path": "/a/1"}, b=5)
    await shared.post("/api/tasks", body)
    assert (await shared.ended("use"))["result"] == 25


async def test_a_failure_passes_down_and_names_its_origin(shared: Cluster) -> None:
    chain = [
        task("fall-1", "raises"),
        task("fall-2", "echo", ["fall-1"]),
        task("fall-3", "echo", ["fall-2"]),
    ]
    await shared.post("/api/tasks", chain)
    second, third = await shared.ended("fall-2"), await shared.ended("fall-3")
    assert second["status"] == third["status"] == "failed"
    assert second["error"]["type"] == "DependencyFailed" and "fall-1" in second["error"]["message"]
    assert "fall-2" in third["error"]["message"] and second["started_at"] is None


async def test_a_cancel_passes_down_as_a_cancel(shared: Cluster) -> None:
    await shared.post("/api/tasks", [task("stop-1", "sleeps"), task("stop-2", "echo", ["stop-1"])])
    assert (await shared.post("/api/tasks/stop-1/cancel", {}))[0] < 300
    assert (await shared.ended("stop-2"))["status"] == "cancelled"


async def test_on_one_that_failed_before_it_came(shared: Cluster) -> None:
    await shared.post("/api/tasks", task("failed-before", "raises"))
    await shared.ended("failed-before")
    await shared.post("/api/tasks", task("too-late", "echo", ["failed-before"]))
    assert (await shared.ended("too-late"))["status"] == "failed"


async def test_two_hundred_into_one_over_both_regions(shared: Cluster) -> None:
    many = [task(f"fan-{n}", "echo", value=n) for n in range(200)]
    await shared.post("/api/tasks", [*many, task("fan-in", "gather", [one["task_id"] for one in many])])
    ended = await shared.ended("fan-in", timeout_s=30)
    assert ended["result"] == {f"fan-{n}": n for n in range(200)}
