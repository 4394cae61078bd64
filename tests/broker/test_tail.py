"""Tails, single messages and bounded reads."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.errors import ApiError
from echelon_infra.jetstream.log import Log
from echelon_infra.jetstream.tail import Entry, Tail, get, read, watch_last
from support.eventually import eventually
from support.lab import nats_lab, proxied


async def test_a_tail_delivers_everything_once_in_order_and_in_batches(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        log = Log(bus, names.LEDGER, "w")
        wall = await log.take_over(names.SYSTEM, b"")
        batches: list[list[Entry]] = []
        tail = Tail(bus, names.LEDGER, after=wall, deliver=batches.append)
        await tail.open()
        before = time.time()
        for k in range(2000):
            log.append(names.ADMITTED, b"%d" % k)
        await log.settle()
        assert await tail.passed(log.durable, 5)
        entries = [entry for batch in batches for entry in batch]
        assert [entry.data for entry in entries] == [b"%d" % k for k in range(2000)]
        assert [entry.seq for entry in entries] == list(range(wall + 1, wall + 2001))
        assert len(batches) < 1000 and tail.position == log.durable
        assert before - 1 < entries[0].at < time.time() + 1 and entries[0].subject == names.ADMITTED
        assert not await tail.passed(log.durable + 1, 0.1)
        await tail.close()
        log.append(names.ADMITTED, b"unread")
        await log.settle()
        assert len([entry for batch in batches for entry in batch]) == 2000
        await log.close()


async def test_trap_a_tail_goes_on_within_two_seconds_of_a_kill(tmp_path: Path) -> None:
    """The server forgets ephemeral consumers when it dies, and tells nobody."""
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        log = Log(bus, names.LEDGER, "w")
        seen: list[int] = []
        tail = Tail(bus, names.LEDGER, after=0, deliver=lambda batch: seen.extend(e.seq for e in batch))
        await tail.open()
        await log.take_over(names.SYSTEM, b"")
        for _ in range(3):
            for _ in range(300):
                log.append(names.ADMITTED, b"")
            await log.flush()
            lab.kill()
            await lab.restart()
            back = time.monotonic()
            await asyncio.wait_for(log.settle(), 5)
            assert await tail.passed(log.durable, 5)
            assert time.monotonic() - back < 2
        assert seen == list(range(1, log.durable + 1))
        await tail.close()
        await log.close()


async def test_a_tail_goes_on_when_its_consumer_is_deleted(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        seen: list[int] = []
        tail = Tail(bus, names.LEDGER, after=0, deliver=lambda batch: seen.extend(e.seq for e in batch))
        await tail.open()
        await bus.publish(names.ADMITTED, b"")
        assert await tail.passed(1, 2)
        consumers = await bus.api(f"CONSUMER.NAMES.{names.LEDGER}")
        for name in consumers["consumers"]:
            await bus.api(f"CONSUMER.DELETE.{names.LEDGER}.{name}")
        await bus.publish(names.ADMITTED, b"")
        assert await tail.passed(2, 3) and seen == [1, 2]
        await tail.close()


async def test_a_message_that_does_not_come_through_is_fetched_again(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        bus, writer = await lab.bus("me", proxy.url), await lab.bus("writer")
        await topology.ensure_hub(bus)
        seen: list[bytes] = []
        tail = Tail(bus, names.LEDGER, after=0, deliver=lambda batch: seen.extend(e.data for e in batch))
        await tail.open()
        proxy.swallow = lambda subject, payload: payload == b"3" and proxy.swallowed == 0
        for k in range(10):
            await writer.publish(names.ADMITTED, b"%d" % k)
        assert await tail.passed(10, 5) and proxy.swallowed == 1
        assert seen == [b"%d" % k for k in range(10)]
        await tail.close()


async def test_two_filters_keep_their_order_and_what_matches_none_is_passed_over(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        log = Log(bus, names.LEDGER, "w")
        await log.take_over(names.SYSTEM, b"")
        wanted = [names.delegated("east"), names.control("east")]
        subjects = [*wanted, names.delegated("west"), names.ADMITTED] * 50
        sequences = {log.append(subject, b""): subject for subject in subjects}
        await log.settle()
        seen: list[Entry] = []
        tail = Tail(bus, names.LEDGER, after=0, filters=wanted, deliver=seen.extend)
        await tail.open()
        assert await tail.passed(log.durable, 2) and tail.position == log.durable
        assert [entry.seq for entry in seen] == [s for s, subject in sequences.items() if subject in wanted]
        for _ in range(20):
            log.append(names.delegated("west"), b"")
        await log.settle()
        await eventually(lambda: tail.position == log.durable, timeout_s=4)
        assert not await tail.passed(log.durable + 1, 0.1)
        await tail.close()
        await log.close()


async def test_a_position_is_passed_although_all_up_to_it_was_purged(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        for _ in range(10):
            await bus.request(names.ADMITTED, b"", timeout_s=1)
        await topology.purge_subject(bus, names.LEDGER, ">")
        tail = Tail(bus, names.LEDGER, after=0, deliver=lambda batch: None)
        await tail.open()
        assert await tail.passed(10, 2)
        await tail.close()


async def test_single_messages_by_sequence(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        before = time.time()
        await bus.request(names.ADMITTED, b"\x00payload", timeout_s=1)
        found = await get(bus, names.LEDGER, 1)
        assert found is not None and before - 1 < found.at < time.time() + 1
        assert found[:3] == (1, names.ADMITTED, b"\x00payload")
        await bus.request(names.ADMITTED, b"", timeout_s=1)
        empty = await get(bus, names.LEDGER, 2)
        assert empty is not None and empty.data == b""
        assert await get(bus, names.LEDGER, 3) is None
        await topology.delete_messages(bus, names.LEDGER, [1])

        async def gone() -> bool:
            return await get(bus, names.LEDGER, 1) is None

        await eventually(gone)


async def test_read_is_bounded_of_logs_and_of_work_queues(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        await topology.ensure_region(bus, "east")
        await topology.ensure_lane(bus, "east", "default", "sync")
        log = Log(bus, names.LEDGER, "w")
        work = Log(bus, names.work("east"), "w")
        wall = await log.take_over(names.SYSTEM, b"")
        await work.take_over(names.work_wall("east"), b"")
        for k in range(1000):
            log.append(names.ADMITTED if k % 2 else names.SETTLED, b"%d" % k)
        for k in range(30):
            work.append(names.work_subject("east", "default", "async" if k % 3 else "sync"), b"%d" % k)
        await log.settle()
        await work.settle()
        await topology.purge_subject(bus, work._stream, names.work_wall("east"))

        async def all_of(stream: str, after: int, upto: int, *filters: str) -> list[int]:
            reading = read(bus, stream, after=after, upto=upto, filters=filters)
            return [int(entry.data) async for batch in reading for entry in batch]

        assert await all_of(names.LEDGER, wall, wall + 700) == list(range(700))
        assert await all_of(names.LEDGER, wall + 10, wall + 20, names.ADMITTED) == [11, 13, 15, 17, 19]
        assert await all_of(names.LEDGER, log.last, log.last) == []
        assert await all_of(names.work("east"), wall, work.last) == list(range(30))
        assert await all_of(names.work("east"), wall + 3, wall + 12) == list(range(3, 12))
        assert await topology.lane_delivered(bus, "east", "default", "sync") == 0
        with pytest.raises(ApiError):
            await all_of("nothing", 0, 1)
        await log.close()
        await work.close()


async def test_watching_the_last_ones_sees_what_vanished_while_it_was_cut_off(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        bus, other = await lab.bus("me", proxy.url), await lab.bus("other")
        await topology.ensure_hub(bus)
        key = names.lease_subject
        await bus.publish(key("worker.east.a"), b"1")
        await bus.publish(key("worker.east.a"), b"2")
        await bus.publish(key("worker.west.b"), b"3")
        await bus.publish(key("leader.master"), b"4")
        await bus.flush()
        seen: list[tuple[str, bytes]] = []
        watch = await watch_last(
            bus,
            names.LEASES_STREAM,
            [key(names.worker_leases())],
            lambda batch: seen.extend((entry.subject, entry.data) for entry in batch),
        )
        await eventually(lambda: seen == [(key("worker.east.a"), b"2"), (key("worker.west.b"), b"3")])
        await bus.publish(key("worker.east.c"), b"5")
        await eventually(lambda: seen[-1] == (key("worker.east.c"), b"5"))
        proxy.refuse = True
        proxy.cut()
        await topology.purge_subject(other, names.LEASES_STREAM, key("worker.west.b"))
        proxy.refuse = False
        await eventually(lambda: seen[-1] == (key("worker.west.b"), b""), timeout_s=5)
        await bus.publish(key("worker.west.b"), b"6")
        await eventually(lambda: seen[-1] == (key("worker.west.b"), b"6"))
        assert len(seen) == 5
        await watch.close()
