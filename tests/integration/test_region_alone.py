"""A regional leader on a real server, with the test as master and as workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from echelon.wire.api import Options
from echelon.wire.child import ERROR, OK, Bundle, Error, Outcomes, Ran, bundle
from echelon.wire.codec import pack
from echelon_core import names
from echelon_core.entries import (
    Cancel,
    Claim,
    Delegated,
    Item,
    Question,
    Room,
    Verdicts,
    WorkerInfo,
    encode,
    region_entry,
    roll_call,
    room,
    verdict,
)
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.lease import Lease
from echelon_infra.jetstream.puller import Delivery, Puller
from echelon_infra.settings import Settings
from echelon_regional.run import _lead
from support.eventually import eventually
from support.lab import Lab, nats_lab

REGION = "east"


class Worker:
    """Holds a lease, pulls, answers roll calls; what becomes of a bundle is the test's affair."""

    def __init__(self, bus: Bus, name: str, *, silent: bool = False) -> None:
        self.bus = bus
        self.name = name
        self.silent = silent
        self.held: dict[int, tuple[Bundle, str]] = {}
        info = WorkerInfo(name, REGION, "default", "h", 1, time.time(), {"async": 10}, {"quick": "async"})
        key = names.worker_lease(REGION, name)
        self.lease = Lease(bus, key, ttl_s=6, renew_s=2, value=lambda: encode(info))
        self.puller = Puller(bus, names.work(REGION), names.work_consumer("default", "async"), self.take)

    async def start(self) -> Worker:
        await topology.ensure_lane(self.bus, REGION, "default", "async")
        await self.lease.acquire()
        self.lease.start()
        await self.bus.subscribe(names.roll_call(REGION), self.answer)
        await self.puller.start()
        self.puller.want(10)
        return self

    def take(self, delivery: Delivery) -> None:
        self.held[delivery.seq] = (bundle(delivery.data), delivery.reply)

    def answer(self, message: Message) -> None:
        if not self.silent:
            said = Claim(self.name, sorted(self.held), call=roll_call(message.data).call)
            self.bus.send(names.claims(REGION), encode(said))

    async def report(self, status: int) -> None:
        """All that is held ended so."""
        held, self.held = self.held, {}
        error = Error("ValueError", "no") if status == ERROR else None
        ran = [
            Ran(run.ref, run.run, status, b"1", time.time(), time.time(), error)
            for sent, _ in held.values()
            for run in sent.runs
        ]
        await self.bus.request(names.outcome_subject(REGION), pack(Outcomes(self.name, ran)), timeout_s=2)
        for _, reply in held.values():
            await self.puller.ack(reply)
        self.puller.want(10)


class Scene:
    def __init__(self, lab: Lab, bus: Bus, settings: Settings) -> None:
        self.lab, self.bus, self.settings = lab, bus, settings
        self.rooms: list[Room] = []
        self.stop = asyncio.Event()

    async def lead(self) -> asyncio.Task[int]:
        """Start a leader; it has its own connection, so that it can be cut off."""
        self.stop = asyncio.Event()
        self.leader_bus = await self.lab.bus("leader")
        return asyncio.create_task(_lead(self.leader_bus, self.settings, self.stop))

    async def crash(self, leader: asyncio.Task[int]) -> None:
        """As kill -9 would: it says nothing more, and its lease stays."""
        leader.cancel()
        with suppress(asyncio.CancelledError):
            await leader
        await self.leader_bus.close()

    async def delegate(self, *items: Item) -> int:
        data = encode(Delegated(time.time(), REGION, list(items)))
        await self.bus.request(names.delegated(REGION), data, timeout_s=2)
        return await topology.last_sequence(self.bus, names.LEDGER)

    async def verdicts(self) -> list[Verdicts]:
        end = await topology.last_sequence(self.bus, names.region_log(REGION))
        found = []
        async for batch in tail.read(self.bus, names.region_log(REGION), after=0, upto=end):
            found += [
                entry
                for each in batch
                if each.data and isinstance(entry := region_entry(each.data), Verdicts)
            ]
        return found

    async def until(self, holds: Callable[[list[Verdicts]], bool], timeout_s: float = 10) -> list[Verdicts]:
        async def look() -> list[Verdicts] | None:
            found = await self.verdicts()
            return found if holds(found) else None

        return await eventually(look, timeout_s=timeout_s)


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("test")
        await topology.ensure_hub(bus)
        await topology.ensure_region(bus, REGION)
        made = Scene(lab, bus, Settings(region=REGION, data=tmp_path))
        await bus.subscribe(names.ROOMS, lambda message: made.rooms.append(room(message.data)))
        yield made


def ok_refs(found: list[Verdicts]) -> list[int]:
    return sorted(ref for entry in found for _, refs in entry.ok for ref in refs)


async def holds(worker: Worker, count: int) -> None:
    async def look() -> bool:
        return sum(len(sent.runs) for sent, _ in worker.held.values()) == count

    await eventually(look)


async def test_delegated_released_run_and_judged(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()
        await s.delegate(Item(1024, "quick", b"{}", 5), Item(1025, "quick", b"{}", 9))
        await holds(worker, 2)
        await worker.report(OK)
        assert ok_refs(await s.until(lambda found: len(ok_refs(found)) == 2)) == [1024, 1025]
        assert s.rooms[-1].types == {"quick": "async"} and s.rooms[-1].credit >= 1000
        s.stop.set()
        assert await leader == 0


async def test_an_error_runs_again_after_its_backoff_and_dies_after_the_last_retry(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()
        await s.delegate(Item(1024, "quick", b"{}", 5, options=Options(retries=1)))
        await holds(worker, 1)
        await worker.report(ERROR)
        found = await s.until(lambda found: any(entry.again for entry in found))
        assert 1.0 <= found[-1].again[0].at - found[-1].at <= 2.0
        await holds(worker, 1)
        await worker.report(ERROR)
        found = await s.until(lambda found: any(entry.ended for entry in found))
        assert (found[-1].ended[0].kind, found[-1].ended[0].charged) == ("dead", 2)
        s.stop.set()
        await leader


async def test_a_new_leader_goes_on_where_the_old_one_crashed(tmp_path: Path) -> None:
    """Held work is not run again; what ended while nobody led is judged."""
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()
        await s.delegate(*(Item(1024 + i, "quick", b"{}", 5) for i in range(5)))
        await holds(worker, 5)
        await s.crash(leader)
        sequences = sorted(worker.held)
        await worker.report(OK)
        await s.delegate(Item(9000, "quick", b"{}", 5))
        leader = await s.lead()
        assert ok_refs(await s.until(lambda found: len(ok_refs(found)) == 5)) == list(range(1024, 1029))
        await holds(worker, 1)
        assert min(worker.held) > max(sequences)
        assert not any(entry.again for entry in await s.verdicts())
        s.stop.set()
        await leader


async def test_what_a_vanished_worker_held_runs_again_and_is_not_charged(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        doomed_bus = await s.lab.bus(names.connection_name("worker", REGION, "w1"))
        doomed = await Worker(doomed_bus, "w1").start()
        await s.delegate(Item(1024, "quick", b"{}", 5))
        await holds(doomed, 1)
        other = await Worker(s.bus, "w2").start()
        doomed.silent = True
        await doomed.puller.stop()
        await doomed.lease.release()
        found = await s.until(lambda found: any(entry.again for entry in found))
        again = found[-1].again[0]
        assert (again.cause, again.charged, again.losses) == ("lost", 0, 1)
        await holds(other, 1)
        await other.report(OK)
        await s.until(lambda found: ok_refs(found) == [1024])
        s.stop.set()
        await leader


async def test_cancel_ends_what_has_not_started_and_leaves_the_rest_to_the_worker(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        leader = await s.lead()
        delegation = await s.delegate(Item(1024, "quick", b"{}", 5))
        await s.bus.request(
            names.control(REGION), encode(Cancel(time.time(), REGION, [(1024, delegation)])), timeout_s=2
        )
        found = await s.until(lambda found: any(entry.ended for entry in found))
        assert found[-1].ended[0].kind == "cancelled"
        s.stop.set()
        await leader


async def test_a_doubtful_message_is_answered_from_what_is_durable(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()
        await s.delegate(Item(1024, "quick", b"{}", 5))
        await holds(worker, 1)
        (sequence, (sent, _)) = next(iter(worker.held.items()))
        runs = [(run.ref, run.run) for run in sent.runs]

        async def ask(name: str) -> list[str]:
            data = encode(Question(name, [(sequence, runs)]))
            return verdict(await s.bus.request(names.questions(REGION), data, timeout_s=3)).words

        assert await ask("w1") == ["yours"]
        assert await ask("w2") == ["wait"]
        await worker.report(OK)
        assert await ask("w2") == ["over"]
        s.stop.set()
        await leader


@pytest.mark.parametrize("faults", [2])
async def test_leaders_come_and_go_and_nothing_is_lost(tmp_path: Path, faults: int) -> None:
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()

        async def work() -> None:
            while True:
                await asyncio.sleep(0.01)
                if worker.held:
                    await worker.report(OK)

        working = asyncio.create_task(work())
        for fault in range(faults):
            await s.delegate(*(Item(2048 * (fault + 1) + i, "quick", b"{}", 5) for i in range(200)))
            await s.crash(leader)
            leader = await s.lead()
            await s.until(lambda found, fault=fault: len(ok_refs(found)) > 200 * fault)
        found = await s.until(lambda found: len(ok_refs(found)) == 200 * faults, timeout_s=20)
        assert len(set(ok_refs(found))) == 200 * faults
        working.cancel()
        s.stop.set()
        await leader


async def test_a_snapshot_at_the_clean_end_spares_the_next_leader_the_logs(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        worker = await Worker(s.bus, "w1").start()
        leader = await s.lead()
        await s.delegate(*(Item(1024 + i, "quick", b"{}", 5) for i in range(50)))
        await holds(worker, 10)
        await worker.report(OK)
        await s.until(lambda found: len(ok_refs(found)) == 10)
        s.stop.set()
        assert await leader == 0
        end = await topology.last_sequence(s.bus, names.region_log(REGION))
        await s.bus.api(f"STREAM.PURGE.{names.region_log(REGION)}", {"seq": end + 1})
        leader = await s.lead()

        async def report() -> bool:
            if worker.held:
                await worker.report(OK)
            return len(ok_refs(await s.verdicts())) == 40

        await eventually(report)
        s.stop.set()
        await leader
