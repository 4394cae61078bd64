"""Who holds what: copies, questions, claims, roll calls, leases; kill -9 of the server."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from echelon.wire.child import HANDED_BACK, OK
from echelon_core.entries import Verdict
from support.eventually import eventually
from support.worker_lab import WorkerLab, always, silence, worker_lab


def sequences(lab: WorkerLab) -> set[int]:
    return {sequence for claim in lab.claims for sequence in claim.sequences}


async def test_what_lasts_is_claimed(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        await lab.settled(await lab.release("quick", 5))
        await lab.release("lasting", 1, s=60)
        await eventually(lambda: 2 in sequences(lab))


async def test_a_roll_call_is_answered_with_all_that_is_held_unacked_and_questioned(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.put([lab.run("lasting", {"n": 0, "s": 60})], "async")  # before the worker: doubtful
        await lab.start()
        await eventually(lambda: lab.journal() == [0])
        await lab.release("blocking", 1, s=60)
        await lab.release("blocking", 1, s=60)
        await eventually(lambda: len(lab.journal()) == 2)
        answer = await lab.call_roll(41)
        assert answer.worker == "w1"
        assert set(answer.sequences) >= {1, 2}
        assert answer.questioned == []


async def test_a_doubtful_message_is_asked_about_before_it_runs(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        lab.answer = silence
        over = await lab.put([lab.run("quick", {"n": 1})], "async")
        await lab.start()
        await eventually(lambda: lab.questions)
        call = await lab.call_roll(5)
        assert (call.sequences, call.questioned) == ([], [1])
        assert lab.journal() == []
        await lab.settled(over)  # nobody answered for half a second: it ran
        assert lab.questions[0].messages == [(1, over)]


async def test_the_answer_is_obeyed(tmp_path: Path) -> None:
    """over: acked, not run; yours: the runs named and no others; wait: neither run nor acked."""
    async with worker_lab(tmp_path) as lab:
        lab.answer = always("over")
        await lab.put([lab.run("quick", {"n": 1})], "async")
        worker = await lab.start()
        await eventually(lambda: len(lab.questions) == 1)
        await eventually(lab._empty)
        worker.signal(signal.SIGTERM)
        await worker.exit_code()

        runs = [lab.run("quick", {"n": n}) for n in (2, 3, 4)]
        lab.answer = lambda asked: Verdict(["yours"], [[asked.messages[0][1][1]]])
        await lab.put(runs, "async")
        worker = await lab.start()
        await lab.settled([(runs[1].ref, runs[1].run)])
        worker.signal(signal.SIGTERM)
        await worker.exit_code()

        lab.answer = always("wait")
        await lab.put([lab.run("quick", {"n": 5})], "async")
        worker = await lab.start()
        await eventually(lambda: len(lab.questions) == 3)
        assert (await lab.call_roll(6)).sequences == []
        assert await lab.left() == 1
        assert lab.journal() == [3]


async def test_a_killed_server_hands_out_copies_and_nothing_is_executed_twice(tmp_path: Path) -> None:
    """No region answers here: the memory alone must do it."""
    async with worker_lab(tmp_path) as lab:
        lab.answer = silence
        await lab.start(concurrency=400)
        keys = []
        for n in range(40):
            keys += await lab.put([lab.run("lasting", {"n": 5 * n + k, "s": 1.0}) for k in range(5)], "async")
        await eventually(lambda: len(lab.journal()) == 200)
        lab.lab.kill()
        await lab.lab.restart()
        ran = await lab.settled(keys, 20)
        assert [one.status for one in ran] == [OK] * 200
        assert sorted(lab.journal()) == list(range(200))


async def test_work_goes_on_after_the_server_was_killed_under_load(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        keys = []
        for n in range(30):
            keys += await lab.put([lab.run("quick", {"n": 64 * n + k}) for k in range(64)], "async")
            if n == 15:
                lab.lab.kill()
                await lab.lab.restart()
        await lab.settled(keys, 20)
        assert sorted(lab.journal()) == list(range(64 * 30))


async def test_a_frozen_worker_takes_its_lease_again_and_asks_before_it_begins_more(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start(heartbeat_interval_s=0.4)
        await lab.settled(await lab.release("blocking", 20))  # it takes them for short, and pulls ahead
        running = await lab.release("blocking", 1, s=2.5)
        await eventually(lambda: lab.starts)
        before = await lab.info()
        waiting = await lab.release("blocking", 1)
        await eventually(lambda: 3 in sequences(lab))
        os.kill(worker.process.pid, signal.SIGSTOP)
        await eventually(lambda: _gone(lab))
        os.kill(worker.process.pid, signal.SIGCONT)
        after = await eventually(lab.info)
        assert before is not None
        assert after is not None
        assert after.started_at == before.started_at
        assert [one.status for one in await lab.settled(running + waiting)] == [OK] * 2
        assert lab.questions[-1].messages == [(3, waiting)]
        assert lab.journal()[20:] == [0, 0]


async def test_what_a_frozen_worker_was_sent_is_asked_about_when_it_wakes(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        worker = await lab.start(heartbeat_interval_s=0.4)
        await lab.settled(await lab.release("quick", 1))
        os.kill(worker.process.pid, signal.SIGSTOP)
        frozen = time.monotonic()
        keys = await lab.release("quick", 1, n=7)
        await eventually(lambda: _gone(lab))
        lab.answer = always("over")
        await eventually(lambda: time.monotonic() - frozen > 2.2)
        os.kill(worker.process.pid, signal.SIGCONT)
        await eventually(lambda: any(asked.messages == [(2, keys)] for asked in lab.questions))
        await eventually(lab._empty)
        assert lab.journal() == [0]


async def _gone(lab: WorkerLab) -> bool:
    return await lab.info() is None


async def test_what_waits_behind_a_long_run_is_given_back_when_another_worker_is_idle(tmp_path: Path) -> None:
    """Short runs were pulled in a hurry; then one of them turns out to last."""
    async with worker_lab(tmp_path) as lab:
        await lab.start("w1")
        for _ in range(20):
            await lab.settled(await lab.release("blocking", 20))  # it knows them as short
        long = await lab.release("blocking", 1, s=2.5)
        await eventually(lambda: {(one.ref, one.run) for one in lab.starts} == set(long))
        behind = [await lab.release("blocking", 1) for _ in range(30)]
        await lab.start("w2")
        ran = await lab.ended([key for keys in behind for key in keys], 2.5)
        assert HANDED_BACK in [one.status for one in ran]
        await lab.settled(long)
