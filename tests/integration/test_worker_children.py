"""Children that die, block and overrun: the guilty run ends, its neighbours go back, the worker goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from echelon.wire.child import DIED, HANDED_BACK, OK, TIMEOUT
from support.eventually import eventually
from support.worker_lab import WorkerLab, worker_lab


async def _still_works(lab: WorkerLab) -> None:
    ran = await lab.settled(await lab.release("quick", 2) + await lab.release("blocking", 2))
    assert [one.status for one in ran] == [OK] * 4


async def test_a_run_that_takes_its_child_down_is_charged_and_the_rest_of_its_bundle_is_not(
    tmp_path: Path,
) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        runs = [lab.run("blocking", {"n": 1}), lab.run("segfault", {"n": 2}), lab.run("blocking", {"n": 3})]
        ended, died, unbegun = await lab.settled(await lab.put(runs, "sync"))
        assert ended.status in (OK, HANDED_BACK)  # its end may have died with the child
        assert died.status == DIED
        assert died.error is not None
        assert died.error.type == "ProcessDied"
        assert "SIGSEGV" in died.error.message
        assert "about to fall" in died.error.traceback
        assert 0 < died.started <= died.ended
        assert unbegun.status == HANDED_BACK
        assert lab.journal() == [1, 2]
        await _still_works(lab)


async def test_a_child_killed_from_outside_is_the_end_of_the_run_that_had_its_thread(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start()
        keys = await lab.release("blocking", 3, s=30)
        await eventually(lambda: lab.journal() == [0])
        victims = [child for child in worker.children() if '"sync"' in " ".join(child.cmdline())]
        os.kill(victims[0].pid, signal.SIGKILL)
        assert [one.status for one in await lab.settled(keys)] == [DIED, HANDED_BACK, HANDED_BACK]
        await _still_works(lab)


async def test_what_blocks_beyond_its_timeout_is_killed(tmp_path: Path) -> None:
    """A sync function; and a coroutine that blocks the loop, whose neighbours are given back."""
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        neighbours = await lab.release("lasting", 2, s=60)
        at = time.monotonic()
        blocking = await lab.release("blocking", 2, s=60, timeout_s=0.3)
        stuck = await lab.release("stuck", 1, timeout_s=0.3)
        [first, second] = await lab.settled(blocking)
        assert first.status == TIMEOUT
        assert first.error is not None
        assert first.error.type == "Timeout"
        assert second.status == HANDED_BACK
        [third] = await lab.settled(stuck)
        assert third.status == TIMEOUT
        assert time.monotonic() - at < 4
        assert [one.status for one in await lab.settled(neighbours)] == [HANDED_BACK] * 2
        await _still_works(lab)


async def test_a_coroutine_that_sleeps_beyond_its_timeout_costs_nobody_else(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        other = await lab.release("lasting", 1, s=1.0)
        late = await lab.release("lasting", 1, s=60, timeout_s=0.3)
        assert (await lab.ended(late))[0].status == TIMEOUT
        assert (await lab.settled(other))[0].status == OK


async def test_a_child_that_dies_again_and_again_is_started_again_each_time(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        for _ in range(2):
            assert (await lab.settled(await lab.release("segfault")))[0].status == DIED
        await _still_works(lab)


async def test_children_do_not_outlive_their_worker(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start(processes=2)
        await lab.release("blocking", 1, s=60)
        await eventually(lambda: lab.journal() == [0])
        children = worker.children()
        assert len(children) == 3
        worker.signal(signal.SIGKILL)
        await eventually(
            lambda: not any(child.is_running() and child.status() != "zombie" for child in children)
        )


async def test_an_application_that_cannot_be_loaded_is_shown_and_ends_the_worker(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        lab.app.write_text("import nonsense_that_is_not_there\n")
        worker = lab.spawn()
        assert await worker.exit_code() == 2
        assert "app.py" in worker.said()
        assert "ModuleNotFoundError: No module named 'nonsense_that_is_not_there'" in worker.said()
        assert await lab.info() is None
        lab.app.write_text("import os\nos.kill(os.getpid(), 11)\n")
        worker = lab.spawn()
        assert await worker.exit_code() == 2
        assert "SIGSEGV" in worker.said()
