"""How a worker ends, and whose id it has."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from echelon.wire.child import HANDED_BACK, OK
from support.eventually import eventually
from support.worker_lab import worker_lab


async def test_drain_ends_what_runs_and_gives_back_what_has_not_begun(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start()
        running = await lab.release("lasting", 3, s=1.0) + await lab.release("blocking", 1, s=1.0)
        await eventually(lambda: sorted(lab.journal()) == [0, 0, 1, 2])
        queued = await lab.release("blocking", 5, s=1.0)
        worker.signal(signal.SIGTERM)
        info = await eventually(lambda: lab.info())
        assert info is not None
        assert await worker.exit_code() == 0
        assert [one.status for one in await lab.ended(running)] == [OK] * 4
        assert await lab.info() is None
        given_back = [lab.ran[key][0].status for key in queued if lab.ran[key]]
        assert given_back in ([], [HANDED_BACK] * 5)  # [] where it had not been pulled
        assert await lab.left() == (0 if given_back else 1)
        assert len(lab.journal()) == 4


async def test_what_still_runs_at_the_end_of_the_drain_is_killed_and_given_back(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start(drain_timeout_s=0.5)
        keys = await lab.release("lasting", 2, s=60) + await lab.release("blocking", 2, s=60)
        await eventually(lambda: len(lab.journal()) == 3)
        at = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
        assert time.monotonic() - at < 2.5
        assert [one.status for one in await lab.settled(keys)] == [HANDED_BACK] * 4


async def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start(drain_timeout_s=60)
        await lab.release("lasting", 1, s=60)
        await eventually(lambda: lab.journal() == [0])
        children = worker.children()
        worker.signal(signal.SIGTERM)
        await eventually(lambda: '"draining"' in worker.said())
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code(5) == 6
        await eventually(lambda: not any(child.is_running() for child in children))


async def test_an_id_belongs_to_one_living_process(tmp_path: Path) -> None:
    """A second process of that name ends; after the first was killed, the next takes over at once."""
    async with worker_lab(tmp_path) as lab:
        first = await lab.start("w1", heartbeat_interval_s=10.0)
        before = await lab.info()
        second = lab.spawn("w1", heartbeat_interval_s=0.3)
        assert await second.exit_code() == 2
        assert "belongs to process" in second.said()
        first.signal(signal.SIGKILL)
        at = time.monotonic()
        await lab.start("w1")
        assert time.monotonic() - at < 20  # less than the lease of the one that was killed
        now = await lab.info()
        assert before is not None
        assert now is not None
        assert now.pid != before.pid
