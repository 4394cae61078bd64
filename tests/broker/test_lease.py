"""Leases: who holds what, until when, and who is next."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.lease import Lease, is_marker, read_lease, revoke
from echelon_infra.jetstream.tail import Entry, watch_last
from support.eventually import eventually
from support.lab import Lab, nats_lab, proxied

KEY = names.master_lease()


async def hub(lab: Lab, name: str = "me", url: str = "") -> Bus:
    bus = await lab.bus(name, url)
    await topology.ensure_hub(bus)
    return bus


def lease(bus: Bus, value: bytes = b"me", *, ttl_s: int = 1, renew_s: float = 0.2) -> Lease:
    return Lease(bus, KEY, ttl_s=ttl_s, renew_s=renew_s, value=lambda: value)


async def test_one_holds_it_and_the_next_gets_it_when_it_is_released(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        first, second = lease(bus, b"first"), lease(bus, b"second")
        epoch = await first.acquire()
        assert epoch == first.revision > 0
        first.start()
        waiting = asyncio.create_task(second.acquire())
        await eventually(lambda: first._sequence > epoch + 2)
        assert await read_lease(bus, KEY) == (b"first", epoch) and first.revision == epoch
        assert not waiting.done()
        await first.release()
        assert await asyncio.wait_for(waiting, 1) > epoch
        assert await read_lease(bus, KEY) == (b"second", second.revision)
        await second.release()
        assert await read_lease(bus, KEY) is None


async def test_trap_a_renewal_carries_its_ttl_anew(tmp_path: Path) -> None:
    """KV `update` drops the TTL, and the lease of a dead holder would live for ever."""
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        held = lease(bus)
        await held.acquire()
        held.start()
        began = time.monotonic()
        await eventually(lambda: held._sequence >= held.revision + 7)
        assert time.monotonic() - began > 1.1 and not held.lost.is_set()
        assert held._renewals is not None
        held._renewals.cancel()  # dies without a word
        died = time.monotonic()
        await eventually(lambda: read_is_none(bus))
        assert time.monotonic() - died < 2
        assert await lease(bus, b"next").acquire() > held.revision


async def read_is_none(bus: Bus) -> bool:
    return await read_lease(bus, KEY) is None


async def test_trap_take_over_of_an_expired_lease_compares_with_its_marker(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        await lease(bus).acquire()

        async def marker() -> bool:
            found = await topology.last_of_subject(bus, names.LEASES_STREAM, names.lease_subject(KEY))
            return found is not None and is_marker(found)

        await eventually(marker, timeout_s=3)
        assert await read_lease(bus, KEY) is None
        began = time.monotonic()
        await lease(bus, b"next").acquire()
        assert time.monotonic() - began < 0.5
        assert (await read_lease(bus, KEY) or (b"",))[0] == b"next"


async def test_who_starts_anew_takes_its_own_former_lease_at_once(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        former = lease(bus, b"pid 1 of host", ttl_s=30)
        epoch = await former.acquire()
        former.start()
        began = time.monotonic()
        anew = lease(bus, b"pid 2 of host", ttl_s=30)
        assert await anew.acquire(mine=lambda value: value.endswith(b"of host")) > epoch
        assert time.monotonic() - began < 0.5
        await asyncio.wait_for(former.lost.wait(), 2)
        await former.release()
        assert await read_lease(bus, KEY) == (b"pid 2 of host", anew.revision)


async def test_of_fifty_that_want_it_one_gets_it(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        contenders = [lease(bus, b"%d" % k, ttl_s=30) for k in range(50)]
        tasks = [asyncio.create_task(contender.acquire()) for contender in contenders]
        await eventually(lambda: any(task.done() for task in tasks))
        await asyncio.gather(*(one_refused(bus) for _ in range(20)))
        assert sum(task.done() for task in tasks) == 1
        for task in tasks:
            task.cancel()


async def one_refused(bus: Bus) -> None:
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    assert b"10071" in await bus.request(names.lease_subject(KEY), b"", timeout_s=1, headers=headers)


async def test_a_lease_that_cannot_be_renewed_is_lost_when_its_time_is_over(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        held = lease(bus, ttl_s=2, renew_s=0.5)
        await held.acquire()
        began = time.monotonic()
        held.start()
        lab.kill()
        await asyncio.wait_for(held.lost.wait(), 5)
        assert 1.5 < time.monotonic() - began < 4
        await lab.restart()


async def test_a_lease_survives_a_restart_of_the_server_and_an_answer_that_is_lost(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        watcher = await hub(lab, "watcher")
        bus = await lab.bus("holder", proxy.url)
        held = lease(bus, ttl_s=4, renew_s=0.3)
        deaf = [2]

        def swallow(subject: str, payload: bytes) -> bool:
            deaf[0] -= b'"seq"' in payload
            return deaf[0] >= 0 and b'"seq"' in payload

        proxy.swallow = swallow
        await asyncio.wait_for(held.acquire(), 5)
        assert proxy.swallowed == 2
        held.start()
        epoch = held.revision
        await eventually(lambda: held._sequence > epoch)
        lab.kill()
        await lab.restart()
        before = held._sequence
        await eventually(lambda: held._sequence > before, timeout_s=3)
        deaf[0] = 1
        await eventually(lambda: deaf[0] < 0)
        before = held._sequence
        await eventually(lambda: held._sequence > before, timeout_s=3)
        assert await read_lease(watcher, KEY) == (b"me", epoch) and not held.lost.is_set()
        await held.release()


async def test_watchers_see_expiry_release_and_revocation(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        seen: list[bytes] = []

        def deliver(batch: list[Entry]) -> None:
            seen.extend(entry.data for entry in batch)

        watch = await watch_last(bus, names.LEASES_STREAM, [names.lease_subject("leader.*")], deliver)
        await lease(bus, b"1").acquire()
        await eventually(lambda: seen == [b"1", b""], timeout_s=4)
        second = lease(bus, b"2", ttl_s=30)
        await second.acquire()
        await second.release()
        await eventually(lambda: seen == [b"1", b"", b"2", b""])
        third = lease(bus, b"3", ttl_s=30)
        await third.acquire()
        third.start()
        assert not await revoke(bus, KEY, third.revision - 1)
        assert await revoke(bus, KEY, third.revision)
        await eventually(lambda: [value for value in seen if value != b"3"] == [b"1", b"", b"2", b"", b""])
        await asyncio.wait_for(third.lost.wait(), 2)
        await watch.close()


async def test_a_new_value_is_told_at_once(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        value = [b"slots 4"]
        held = Lease(bus, KEY, ttl_s=30, renew_s=10, value=lambda: value[0])
        await held.acquire()
        held.start()
        value[0] = b"slots 5"
        await held.renew_now()
        assert await read_lease(bus, KEY) == (b"slots 5", held.revision)
        await held.release()


async def test_a_lease_is_given_back_even_when_its_last_renewal_was_unheard(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab, proxied(lab.url) as proxy:
        watcher = await hub(lab, "watcher")
        held = lease(await lab.bus("holder", proxy.url), ttl_s=30, renew_s=0.2)
        await held.acquire()
        proxy.swallow = lambda subject, payload: b'"seq"' in payload
        await held.renew_now()
        assert proxy.swallowed == 1
        proxy.swallow = lambda subject, payload: False
        await held.release()
        assert await read_lease(watcher, KEY) is None


async def test_what_is_taken_again_after_an_outage_lives_as_long_as_a_new_one(tmp_path: Path) -> None:
    """Our own entry of before is still there for a moment: to find it is not to hold it."""
    async with nats_lab(tmp_path) as lab:
        bus = await hub(lab)
        mine = lease(bus, ttl_s=2, renew_s=1.0)
        first = await mine.acquire()
        before = time.monotonic()
        await eventually(lambda: time.monotonic() - before > 1.7)  # no renewal came through
        again = await mine.acquire()
        assert again > first
        await eventually(lambda: time.monotonic() - before > 2.7)  # the old one would be gone
        assert await read_lease(bus, KEY) == (b"me", again)
