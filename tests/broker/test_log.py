"""The chain and the wall, on one server and on three."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.log import Log, read_ack
from echelon_infra.jetstream.tail import Entry, read
from echelon_infra.leader.lead import Deposed
from support.eventually import eventually
from support.lab import Lab, nats_lab, proxied

EXPECTED = "Nats-Expected-Last-Sequence"
PUBACK = b'{"stream":'


async def all_of(bus: Bus, stream: str = names.LEDGER) -> list[Entry]:
    end = await topology.last_sequence(bus, stream)
    return [entry async for batch in read(bus, stream, after=0, upto=end) for entry in batch]


async def ledger(lab: Lab, name: str, url: str = "", *, width: int = 96) -> tuple[Bus, Log]:
    bus = await lab.bus(name, url)
    await topology.ensure_hub(bus, replicas=lab.replicas)
    return bus, Log(bus, names.LEDGER, name, width=width)


async def test_entries_are_stored_in_order_and_durable_is_told_in_order(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus, log = await ledger(lab, "a")
        told: list[int] = []
        log.on_durable = told.append
        wall = await log.take_over(names.SYSTEM, b"epoch")
        assert wall == log.last == log.durable == 97
        assert [log.append(names.ADMITTED, b"%d" % k) for k in range(500)] == list(range(98, 598))
        await log.settle()
        assert log.durable == 597 and told == sorted(told) and told[-1] == 597
        entries = await all_of(bus)
        assert [entry.data for entry in entries[:2]] == [b"epoch", b""]
        assert [entry.data for entry in entries[97:]] == [b"%d" % k for k in range(500)]
        await log.close()


async def test_trap_chain_under_swallowed_pubacks_and_kills_is_stored_once_and_in_order(
    tmp_path: Path,
) -> None:
    """Unknown outcomes, again and again: 30 % of the PubAcks vanish, and the server is killed three times."""
    chance = random.Random(8)
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        reader = await lab.bus("reader")
        _, log = await ledger(lab, "writer", proxy.url)
        wall = await log.take_over(names.SYSTEM, b"epoch")
        proxy.swallow = lambda subject, payload: payload.startswith(PUBACK) and chance.random() < 0.3
        count, kills = 6000, (1000, 2500, 4000)
        async with asyncio.timeout(30):
            for k in range(count):
                log.append(names.ADMITTED, b"%d" % k + b" " * 1000)
                if k % 16 == 15:
                    await log.flush()
                if k in kills:
                    lab.kill()
                    restarted = asyncio.create_task(lab.restart())
            await log.settle()
        await restarted
        assert proxy.swallowed > count // 10
        entries = (await all_of(reader))[wall:]
        assert [int(entry.data) for entry in entries] == list(range(count))
        assert log.durable == entries[-1].seq == wall + count
        await log.close()


@pytest.mark.parametrize("nodes", [1, 3])
async def test_trap_wall_refuses_all_that_a_frozen_old_leader_still_sends(tmp_path: Path, nodes: int) -> None:
    async with nats_lab(tmp_path, nodes) as lab, proxied(lab.servers[0].url) as proxy:
        _, old = await ledger(lab, "old", proxy.url)
        bus, new = await ledger(lab, "new")
        await old.take_over(names.SYSTEM, b"epoch 1")
        for k in range(10):
            old.append(names.ADMITTED, b"old %d" % k)
        await old.settle()
        proxy.freeze()
        for k in range(200):
            old.append(names.SETTLED, b"stray %d" % k)
        flushing = asyncio.create_task(old.flush())
        wall = await new.take_over(names.SYSTEM, b"epoch 2")
        for k in range(10):
            new.append(names.ADMITTED, b"new %d" % k)
        await new.settle()
        proxy.thaw()
        await asyncio.wait_for(old.fenced.wait(), 10)
        for k in range(10, 20):
            new.append(names.ADMITTED, b"new %d" % k)
        await new.settle()
        with pytest.raises(Deposed):
            await flushing
        with pytest.raises(Deposed):
            old.append(names.ADMITTED, b"too late")
        entries = await all_of(bus)
        assert [entry.data for entry in entries[wall:]] == [b"new %d" % k for k in range(20)]
        assert not [entry for entry in entries if entry.data.startswith(b"stray")]
        assert not new.fenced.is_set()
        await old.close()
        await new.close()


@pytest.mark.parametrize("nodes", [1, 3])
async def test_trap_wall_stands_against_a_leader_that_never_pauses(tmp_path: Path, nodes: int) -> None:
    """Take-overs while the old leader has its full width in flight: none of it is stored after the wall."""
    async with nats_lab(tmp_path, nodes) as lab:
        _, leader = await ledger(lab, "leader 0")
        await leader.take_over(names.SYSTEM, b"0")
        walls: list[int] = []
        for epoch in range(1, 6):
            old, stop = leader, asyncio.Event()

            async def write(old: Log = old, stop: asyncio.Event = stop, mark: int = epoch - 1) -> None:
                while not stop.is_set():
                    old.append(names.ADMITTED, b"by %d" % mark)
                    await old.flush()
                    await asyncio.sleep(0)

            writing = asyncio.create_task(write())
            begun = old.durable
            await eventually(lambda old=old, begun=begun: old.durable > begun + 50)  # type: ignore[misc]
            bus, leader = await ledger(lab, f"leader {epoch}")
            walls.append(await leader.take_over(names.SYSTEM, b"%d" % epoch))
            with pytest.raises(Deposed):
                await asyncio.wait_for(writing, 15)
            await old.close()
        entries = await all_of(bus)
        for epoch, wall in enumerate(walls, start=1):
            late = [entry for entry in entries if entry.seq > wall and entry.data == b"by %d" % (epoch - 1)]
            assert not late
        await leader.close()


async def test_trap_one_marker_is_not_enough(tmp_path: Path) -> None:
    """The wall's reason: a single marker fills the gap, and the second publish in flight fits behind it."""
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        _, old = await ledger(lab, "old", proxy.url)
        bus, new = await ledger(lab, "new", width=0)
        await old.take_over(names.SYSTEM, b"epoch 1")
        proxy.freeze()
        for k in range(10):
            old.append(names.SETTLED, b"stray %d" % k)
        await old.flush()
        assert await new.take_over(names.SYSTEM, b"epoch 2") == 98
        proxy.thaw()
        await eventually(lambda: old.fenced.is_set())
        entries = await all_of(bus)
        assert [entry.data for entry in entries[97:]] == [b"epoch 2"] + [
            b"stray %d" % k for k in range(1, 10)
        ]
        await old.close()
        await new.close()


async def test_trap_a_chain_heals_after_a_foreign_message(tmp_path: Path) -> None:
    """Of a pipelined chain only the publish that met the foreign message is refused; the next fits again."""
    async with nats_lab(tmp_path) as lab:
        bus, log = await ledger(lab, "a")
        last = await log.take_over(names.SYSTEM, b"")
        answers: list[bool] = []
        await bus.subscribe("answers", lambda message: answers.append(read_ack(message.data).error is None))
        bus.send(names.SYSTEM, b"foreign")
        for k in range(8):
            bus.send(names.ADMITTED, b"", reply="answers", headers={EXPECTED: str(last + k)})
        await eventually(lambda: len(answers) == 8)
        assert answers == [False] + [True] * 7
        await log.close()


async def test_trap_a_refused_puback_has_sequence_zero_and_no_exception(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus, log = await ledger(lab, "a")
        await log.take_over(names.SYSTEM, b"")
        raw = await bus.request(names.ADMITTED, b"", timeout_s=1, headers={EXPECTED: "7"})
        assert json.loads(raw)["seq"] == 0
        ack = read_ack(raw)
        assert ack.error is not None and ack.error.err_code == 10071
        await log.close()


async def test_who_comes_back_to_a_purged_wall_is_deposed_by_the_streams_end_alone(tmp_path: Path) -> None:
    """The markers of a work queue are purged: no writer can be compared, but the queue ends too late."""
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("region")
        await topology.ensure_region(bus, "east")
        old, new = (Log(bus, names.work("east"), name) for name in ("old", "new"))
        await old.take_over(names.work_wall("east"), b"")
        await new.take_over(names.work_wall("east"), b"")
        await topology.purge_subject(bus, names.work("east"), names.work_wall("east"))
        for _ in range(96):
            old.append(names.work_subject("east", "default", "sync"), b"late")
        with pytest.raises(Deposed):
            await asyncio.wait_for(old.settle(), 2)
        assert not await all_of(bus, names.work("east"))
        await old.close()
        await new.close()


async def test_chain_of_a_work_queue_goes_on_when_its_entries_are_consumed_unheard(tmp_path: Path) -> None:
    """A consumed message cannot be compared. That the queue ends within what we sent says it was ours."""
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        reader = await lab.bus("reader")
        await topology.ensure_region(reader, "east")
        await topology.ensure_lane(reader, "east", "default", "async")
        bus = await lab.bus("writer", proxy.url)
        log = Log(bus, names.work("east"), "writer")
        await log.take_over(names.work_wall("east"), b"")
        await topology.purge_subject(reader, names.work("east"), names.work_wall("east"))
        proxy.swallow = lambda subject, payload: payload.startswith(PUBACK)
        subject = names.work_subject("east", "default", "async")
        first = log.append(subject, b"one")
        log.append(subject, b"two")
        await log.flush()

        async def gone() -> bool:
            await topology.delete_messages(reader, names.work("east"), [first])
            info = await reader.api(f"STREAM.INFO.{names.work('east')}")
            return bool(info["state"]["messages"] == 1 and info["state"]["last_seq"] == log.last)

        await eventually(gone)
        await asyncio.wait_for(log.settle(), 5)
        proxy.swallow = lambda subject, payload: False
        log.append(subject, b"three")
        await asyncio.wait_for(log.settle(), 5)
        left = [entry.data for entry in await all_of(reader, names.work("east"))]
        assert left == [b"two", b"three"] and log.durable == first + 2
        await log.close()


async def test_r3_chain_goes_on_when_the_streams_leader_is_killed(tmp_path: Path) -> None:
    async with nats_lab(tmp_path, 3) as lab:
        bus, log = await ledger(lab, "a")
        wall = await log.take_over(names.SYSTEM, b"")
        async with asyncio.timeout(30):
            for k in range(2000):
                log.append(names.ADMITTED, b"%d" % k)
                if k == 1000:
                    lab.kill(await lab.leader(names.LEDGER))
                if k % 10 == 0:
                    await log.flush()
            await log.settle()
        entries = (await all_of(bus))[wall:]
        assert [int(entry.data) for entry in entries] == list(range(2000))
        assert log.durable == wall + 2000
        await log.close()
