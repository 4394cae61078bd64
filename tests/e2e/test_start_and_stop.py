"""Starting, stopping and starting again: nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from e2e.conftest import app_in
from support.cluster import Cluster, cluster
from support.eventually import eventually


async def total(c: Cluster, status: str) -> int:
    return int((await c.get(f"/api/tasks?status={status}&limit=1"))["total"])


async def is_running(c: Cluster, task_id: str) -> bool:
    return bool((await c.get(f"/api/tasks/{task_id}"))["stage"] == "running")


async def test_what_was_admitted_outlives_the_whole(tmp_path: Path) -> None:
    """Finished tasks are still listed, waiting ones still wait, what ran runs again and nothing twice."""
    async with cluster(tmp_path, app=app_in(tmp_path)) as c:
        done = [{"task_id": f"d-{n}", "task_type": "echo", "payload": {"value": n}} for n in range(300)]
        waiting = [{"task_id": f"w-{n}", "task_type": "of-tomorrow"} for n in range(50)]
        dependant = {"task_id": "held", "task_type": "gather", "dependencies": ["long"]}
        long = {"task_id": "long", "task_type": "sleeps", "payload": {"seconds": 3600}}
        assert (await c.post("/api/tasks", [*done, *waiting, long, dependant]))[0] == 202
        await eventually(lambda: counted(c, "completed", 300), timeout_s=30, every_s=0.1)
        await eventually(lambda: is_running(c, "long"), timeout_s=10, every_s=0.1)
        assert await c.stop() == 0
    async with cluster(tmp_path, app=app_in(tmp_path)) as c:
        assert await total(c, "completed") == 300
        assert (await c.get("/api/tasks/d-7"))["result"] == 7
        assert (await c.get("/api/tasks/w-7"))["status"] == "pending"
        assert (await c.get("/api/tasks/held"))["status"] == "pending"
        await eventually(lambda: is_running(c, "long"), timeout_s=20, every_s=0.1)
        again = await c.post("/api/tasks", {"task_id": "d-7", "task_type": "echo", "payload": {"value": 7}})
        assert again[0] == 200, "the id of an ended task is remembered"
        assert (await c.post("/api/tasks/long/cancel", {}))[0] < 300
        assert (await c.ended("held"))["status"] == "cancelled"


async def counted(c: Cluster, status: str, number: int) -> bool:
    return await total(c, status) == number


async def test_ctrl_c_lets_short_work_end_and_gives_back_the_rest(tmp_path: Path) -> None:
    async with cluster(tmp_path, app=app_in(tmp_path)) as c:
        short = [{"task_id": f"s-{n}", "task_type": "sleeps", "payload": {"seconds": 1}} for n in range(20)]
        await c.post("/api/tasks", [*short, {"task_id": "endless", "task_type": "blocks"}])
        await eventually(lambda: is_running(c, "endless"), timeout_s=10, every_s=0.05)
        began = time.monotonic()
        assert await c.stop() == 0
        assert time.monotonic() - began < 10
        await c.vanished()
    async with cluster(tmp_path, app=app_in(tmp_path)) as c:
        ended = [await c.ended(f"s-{n}") for n in range(20)]
        assert {task["status"] for task in ended} == {"completed"}
        await eventually(lambda: is_running(c, "endless"), timeout_s=20, every_s=0.1)
        assert (await c.get("/api/tasks/endless"))["attempt"] == 1, "a drain charges nobody"
        assert (await c.post("/api/tasks/endless/cancel", {}))[0] < 300
        await c.ended("endless")


async def test_ctrl_c_reaches_the_supervisor_alone_even_if_the_terminal_tells_all(tmp_path: Path) -> None:
    """A terminal signals its whole foreground group; `uv run` passes a copy on: that is one Ctrl-C."""
    async with cluster(tmp_path, app=app_in(tmp_path), regions="east") as c:
        await c.post("/api/tasks", {"task_id": "s", "task_type": "sleeps", "payload": {"seconds": 1}})
        await eventually(lambda: is_running(c, "s"), timeout_s=10, every_s=0.05)
        group = os.getpgid(c.up_pid)
        assert all(os.getpgid(pid) != group for pid in c.pids().values())
        os.killpg(group, signal.SIGINT)
        await asyncio.sleep(0.2)  # the copy that `uv run` sends comes a moment later
        assert await c.stop() == 0
        await c.vanished()


async def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, app=app_in(tmp_path), regions="east") as c:
        await c.post("/api/tasks", {"task_id": "endless", "task_type": "blocks"})
        await eventually(lambda: is_running(c, "endless"), timeout_s=10, every_s=0.05)
        os.kill(c.up_pid, signal.SIGINT)
        await asyncio.sleep(0.7)  # two within half a second count as one
        began = time.monotonic()
        assert await c.stop() == 6
        assert time.monotonic() - began < 2
        await c.vanished()


async def test_a_second_up_in_one_folder_is_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path, app=app_in(tmp_path), regions="east"):
        second = Cluster(tmp_path, app=tmp_path / "app.py", regions="east")
        second.spawn()
        try:
            await eventually(lambda: not second.alive(), timeout_s=10, every_s=0.05)
            assert second.code() == 3 and "already" in second.said()
        finally:
            second.end()


async def test_an_app_that_cannot_be_imported_is_shown_and_ends_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    c = Cluster(tmp_path, app=broken, regions="east")
    c.spawn()
    try:
        await eventually(lambda: not c.alive(), timeout_s=20, every_s=0.05)
        assert c.code() == 2 and "nothing_of_that_name" in c.said() and "broken.py" in c.said()
        await c.vanished()
    finally:
        c.end()
