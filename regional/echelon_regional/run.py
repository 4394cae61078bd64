"""A regional scheduler as a process: lease, walls, recovery in the order of protocol.md §4, then lead."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from echelon.wire.child import bundle
from echelon_core import names
from echelon_core.entries import RegionEpoch, Verdicts, encode, ledger_entry, region_entry
from echelon_infra import process
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import Bus, connect
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.lease import Lease, read_lease
from echelon_infra.jetstream.log import Log
from echelon_infra.jetstream.tail import Entry, Tail, watch_last
from echelon_infra.leader.lead import Deposed, lead
from echelon_infra.settings import Settings
from echelon_infra.telemetry import logs
from echelon_regional.census import Census
from echelon_regional.doors import Floor
from echelon_regional.keep import Keeper
from echelon_regional.state import NewerLeader, RegionState

log = logs.get("regional")

LEASE_TTL_S = 3
LEASE_RENEW_S = 1.0


class _Ledger:
    """The region's part of the ledger, absorbed as far as asked."""

    def __init__(self, batches: AsyncIterator[list[Entry]], state: RegionState) -> None:
        self._batches = batches
        self._state = state
        self._held: list[Entry] = []

    async def absorb(self, upto: int) -> None:
        while True:
            while self._held and self._held[0].seq <= upto:
                entry = self._held.pop(0)
                self._state.absorb(entry.seq, ledger_entry(entry.data))
            if self._held:
                return
            batch = await anext(self._batches, None)
            if batch is None:
                return
            self._held = batch


async def recover(bus: Bus, region: str, own: Log, work: Log, keeper: Keeper) -> RegionState:
    """The newest snapshot, ledger and own log from there to their ends, then what is left in the work queue.

    Raises:
        Deposed: a newer leader has released work.
    """
    state = await keeper.newest(own.last)
    ledger_end = await topology.last_sequence(bus, names.LEDGER)
    filters = (names.delegated(region), names.control(region))
    unread = tail.read(bus, names.LEDGER, after=state.ledger, upto=ledger_end, filters=filters)
    ledger = _Ledger(unread, state)
    async for batch in tail.read(bus, names.region_log(region), after=state.sequence, upto=own.last):
        for entry in batch:
            if not entry.data:
                continue
            decoded = region_entry(entry.data)
            if isinstance(decoded, Verdicts):
                await ledger.absorb(decoded.ledger)
            state.apply(entry.seq, decoded)
    await ledger.absorb(ledger_end)
    closed: list[int] = []
    async for batch in tail.read(bus, names.work(region), after=0, upto=work.last):
        for entry in batch:
            tokens = entry.subject.split(".")
            if len(tokens) < 5 or not entry.data:
                continue
            lane = names.work_consumer(tokens[-2], tokens[-1])
            runs = [(run.ref, run.run) for run in bundle(entry.data).runs]
            try:
                if not state.adopt(entry.seq, lane, runs):
                    closed.append(entry.seq)
            except NewerLeader as error:
                raise Deposed(str(error)) from error
    if closed:
        await topology.delete_messages(bus, names.work(region), closed)
    return state


async def _lead(bus: Bus, settings: Settings, stop: asyncio.Event) -> int:
    region = settings.region
    writer = uuid.uuid4().hex[:16]
    me = f"{socket.gethostname()}/{settings.data.resolve()}/{region}".encode()
    lease = Lease(
        bus,
        names.region_lease(region),
        ttl_s=LEASE_TTL_S,
        renew_s=LEASE_RENEW_S,
        value=lambda: me + b" " + writer.encode(),
    )
    epoch = await lease.acquire(mine=lambda value: value.startswith(me + b" "))
    lease.start()
    own = Log(bus, names.region_log(region), writer)
    work = Log(bus, names.work(region), writer)
    began = time.monotonic()
    await own.take_over(names.region_subject(region), encode(RegionEpoch(epoch, writer, time.time())))
    await work.take_over(names.work_wall(region), writer.encode())
    await topology.purge_subject(bus, names.work(region), names.work_wall(region))
    held = await read_lease(bus, names.region_lease(region))
    if held is None or not held[0].endswith(writer.encode()):
        raise Deposed("another leader took the lease while the walls were built")
    keeper = Keeper(bus, region, settings.data)
    state = await recover(bus, region, own, work, keeper)
    floor = Floor(bus, region, state, own, work)
    floor.open_at = await topology.last_sequence(bus, names.outcomes(region))
    log.info(
        "leading", epoch=epoch, tasks=len(state.tasks), released=len(state.released),
        recovered_s=round(time.monotonic() - began, 3), pid=os.getpid(),
    )  # fmt: skip
    try:
        await _serve(bus, floor, keeper, lease, stop)
    finally:
        await own.close()
        await work.close()
    await lease.release()
    return 0


async def _serve(bus: Bus, floor: Floor, keeper: Keeper, lease: Lease, stop: asyncio.Event) -> None:
    """Lead until stopped or deposed."""
    region = floor.region
    census = Census(floor)
    bus.on_reconnect.append(census.on_reconnect)
    await bus.subscribe(names.claims(region), census.on_claim)
    await bus.subscribe(names.questions(region), census.on_question)
    await bus.subscribe(names.DISCONNECTS, floor.on_disconnect)
    filters = (names.delegated(region), names.control(region))
    tails = [
        Tail(bus, names.LEDGER, after=floor.state.ledger, filters=filters, deliver=floor.on_ledger),
        Tail(bus, names.outcomes(region), after=floor.state.outcomes, deliver=floor.on_outcomes),
    ]
    for each in tails:
        await each.open()
    leases = [names.lease_subject(names.worker_leases(region))]
    floor.leases = await watch_last(bus, names.LEASES_STREAM, leases, floor.on_leases)
    tails.append(floor.leases)
    floor.call_wanted.set()
    floor.arrivals.wake()
    work = [
        asyncio.create_task(lead(floor, floor.own, floor.arrivals, floor.outbox, time.time, floor.and_then)),
        asyncio.create_task(floor.report()),
        asyncio.create_task(census.run()),
        asyncio.create_task(census.answer()),
        asyncio.create_task(keeper.run(floor)),
    ]
    watch: list[asyncio.Task[Any]] = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(lease.lost.wait()),
        asyncio.create_task(floor.own.fenced.wait()),
        asyncio.create_task(floor.work.fenced.wait()),
    ]
    try:
        await asyncio.wait([*work, *watch], return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            if task.done():
                task.result()  # Deposed, or a bug: either ends this process
        if not stop.is_set():
            raise Deposed("the lease is lost" if lease.lost.is_set() else "another leader writes our log")
    finally:
        for task in (*work, *watch):
            task.cancel()
        for each in tails:
            await each.close()
    await floor.own.settle()
    await floor.work.settle()
    await keeper.save(floor)


async def _main(settings: Settings) -> int:
    stop = process.stop_event()
    logs.configure(settings.log_level, settings.log_format, {"region": settings.region})
    try:
        bus = await connect(
            settings.nats_url, names.connection_name("regional", settings.region, str(os.getpid()))
        )
    except BrokerError as error:
        log.error("no server", url=settings.nats_url, error=str(error))
        return process.NO_SERVER
    bus.on_closed.append(lambda: os._exit(process.NO_SERVER))
    try:
        await topology.ensure_hub(bus, replicas=settings.replicas)
        await topology.ensure_region(bus, settings.region, replicas=settings.replicas)
        return await _lead(bus, settings, stop)
    except Deposed as error:
        log.warning("deposed", why=str(error))
        return process.DEPOSED
    except BrokerError as error:
        log.error("broker failed", error=str(error))
        return process.DEPOSED
    finally:
        await bus.close()


def main(settings: Settings) -> int:
    """Run until stopped. Exit codes: 0 stopped, 5 no server, 70 deposed: start it again."""
    return process.run(_main(settings))
