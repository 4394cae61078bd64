"""The master as a process: lease, wall, recovery, then lead until stopped or deposed."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sqlite3
import time
import uuid
from typing import Any, Final

from echelon_core import names
from echelon_core.entries import Epoch, encode, ledger_entry
from echelon_infra import process
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus, connect
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.lease import Lease, read_lease
from echelon_infra.jetstream.log import Log
from echelon_infra.leader.lead import Deposed, Outbox, lead
from echelon_infra.leader.recover import Gap, recover
from echelon_infra.leader.snapshot import Snapshots, Unwritten, write_aside
from echelon_infra.settings import Settings
from echelon_infra.telemetry import logs
from echelon_master import image
from echelon_master.decide import Master, Policy
from echelon_master.doors import Doors
from echelon_master.ended import EndedIndex
from echelon_master.state import MasterState

log: Final = logs.get("master")

LEASE_TTL_S: Final = 3
LEASE_RENEW_S: Final = 1.0
INDEX_EVERY_S: Final = 0.25
INDEX_AT_ONCE: Final = 50_000
SNAPSHOT_LOOK_S: Final = 1.0
SNAPSHOT_TASKS: Final = 100_000
SNAPSHOT_GAP_S: Final = 10.0
LAST_SNAPSHOT_S: Final = 3.0


class Keeper:
    """What is kept on disk beside the ledger: the ended index, and snapshots of the state."""

    def __init__(self, bus: Bus, settings: Settings, stream: str) -> None:
        self.folder = settings.data / "master"
        for left in self.folder.glob("snapshot-*"):  # by one that was killed
            left.unlink()
        self.index = EndedIndex(self.folder / "ended.db", stream)
        self.snapshots = Snapshots(Blobs(bus), "master", stream)
        self._work_at = 0  # at the last snapshot
        self._saved_at = 0.0

    async def recover(self, bus: Bus, own: Log, cache_bytes: int) -> MasterState:
        """The state at the end of the wall; the index is brought up to there."""
        index = self.index
        if index.position > own.last:
            log.warning("the ended index is ahead of the ledger and is made anew", position=index.position)
            index.forget()

        def apply(state: MasterState, entry: tail.Entry) -> None:
            state.apply(entry.seq, ledger_entry(entry.data) if entry.data else None)
            if index.waiting > INDEX_AT_ONCE:
                index.write_now(entry.seq)

        def load(chunks: list[bytes]) -> MasterState:
            state = image.load(chunks, cache_bytes, index.feed)
            self._work_at = _work(state)
            return state

        state = await recover(
            bus,
            names.LEDGER,
            self.snapshots,
            upto=own.last,
            not_beyond=index.position,
            fresh=lambda: MasterState(cache_bytes, index.feed),
            load=load,
            apply=apply,
        )
        index.write_now(own.last)
        return state

    async def keep_index(self, own: Log) -> None:
        """Write what has ended, soon after it is durable."""
        while True:
            await asyncio.sleep(INDEX_EVERY_S)
            try:
                await self.index.write(own.durable)
            except sqlite3.Error as error:  # a full disk: it stays in memory until there is room
                log.error("ended index not written", error=str(error))

    async def keep_snapshots(self, state: MasterState, own: Log, outbox: Outbox) -> None:
        """One whenever as much has happened as there is to write, so the cost stays in proportion."""
        while True:
            await asyncio.sleep(SNAPSHOT_LOOK_S)
            rested = time.monotonic() - self._saved_at > SNAPSHOT_GAP_S
            if rested and _work(state) - self._work_at >= 2 * max(SNAPSHOT_TASKS, state.live):
                await self.snapshot(state, own, outbox)

    async def snapshot(self, state: MasterState, own: Log, outbox: Outbox) -> None:
        """The state as it is now, stored once it is durable and the index has it too."""
        seq, work = state.seq, _work(state)
        durable = asyncio.Event()
        outbox.hold(seq, [lambda _: durable.set()])
        file = self.folder / f"snapshot-{seq}"
        began = time.monotonic()
        try:
            await write_aside(file, lambda: image.chunks(state))
            await durable.wait()
            await self.index.write(own.durable)
            await self.snapshots.save(seq, file)
            self._work_at, self._saved_at = work, time.monotonic()
            log.info("snapshot", ledger=seq, tasks=state.live, took_s=round(time.monotonic() - began, 3))
        except (Unwritten, BrokerError, sqlite3.Error, OSError) as error:
            log.error("snapshot not made", ledger=seq, error=str(error))
        finally:
            file.unlink(missing_ok=True)

    async def last(self, state: MasterState, own: Log, outbox: Outbox) -> None:
        """At a clean end: the next start reads little."""
        await self.index.write(own.durable)
        if _work(state) - self._work_at:
            try:
                await asyncio.wait_for(self.snapshot(state, own, outbox), LAST_SNAPSHOT_S)
            except TimeoutError:
                log.warning("no time for a last snapshot", tasks=state.live)


def _work(state: MasterState) -> int:
    """Tasks ever admitted plus tasks ever ended."""
    return state.live + 2 * state.ended


async def _lead(bus: Bus, settings: Settings, stop: asyncio.Event) -> int:
    writer = uuid.uuid4().hex[:16]
    me = f"{socket.gethostname()}/{settings.data.resolve()} ".encode()
    lease = Lease(
        bus,
        names.master_lease(),
        ttl_s=LEASE_TTL_S,
        renew_s=LEASE_RENEW_S,
        value=lambda: me + writer.encode(),
    )
    epoch = await _unless(stop, lease.acquire(mine=lambda value: value.startswith(me)))
    if epoch is None:
        return process.OK
    lease.start()
    began = time.monotonic()
    own = Log(bus, names.LEDGER, writer)
    await own.take_over(names.SYSTEM, encode(Epoch(epoch, writer, time.time())))
    held = await read_lease(bus, names.master_lease())
    if held is None or not held[0].endswith(writer.encode()):
        raise Deposed("another leader took the lease while the wall was built")
    info = await topology.retrying(lambda: bus.api(f"STREAM.INFO.{names.LEDGER}"))
    keeper = Keeper(bus, settings, str(info["created"]))
    try:
        state = await keeper.recover(bus, own, settings.payload_cache_bytes)
        gc.collect()
        gc.freeze()
        log.info(
            "leading", epoch=epoch, tasks=state.live, ledger=own.last,
            recovered_s=round(time.monotonic() - began, 3), pid=os.getpid(),
        )  # fmt: skip
        await _serve(bus, settings, own, state, keeper, lease, stop)
    finally:
        await own.close()
        keeper.index.close()
    await lease.release()
    return process.OK


async def _unless(stop: asyncio.Event, work: Any) -> Any:
    """The result of `work`, or None if `stop` came first."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        return doing.result()
    doing.cancel()
    return None


async def _serve(
    bus: Bus,
    settings: Settings,
    own: Log,
    state: MasterState,
    keeper: Keeper,
    lease: Lease,
    stop: asyncio.Event,
) -> None:
    """Lead until stopped or deposed."""
    doors = Doors(bus, own, state, keeper.index)
    policy = Policy(settings.backlog_tasks, settings.backlog_bytes, settings.region_grace_s)
    fold = Master(state, keeper.index, doors.notify, policy, time.time())
    await doors.open(settings.regions)
    doors.arrivals.wake()
    work = [
        asyncio.create_task(lead(fold, own, doors.arrivals, doors.outbox, time.time)),
        asyncio.create_task(keeper.keep_index(own)),
        asyncio.create_task(keeper.keep_snapshots(state, own, doors.outbox)),
    ]
    watch: list[asyncio.Task[Any]] = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(lease.lost.wait()),
        asyncio.create_task(own.fenced.wait()),
    ]
    try:
        await asyncio.wait([*work, *watch], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set() and not work[0].done():
            await asyncio.wait(
                [work[0], asyncio.ensure_future(doors.finish())], return_when="FIRST_COMPLETED"
            )
        for task in work:
            if task.done():
                task.result()  # Deposed, or a bug: either ends this process
        if not stop.is_set():
            raise Deposed("the lease is lost" if lease.lost.is_set() else "another leader writes our log")
    finally:
        for task in (*work, *watch):
            task.cancel()
        await asyncio.gather(*work, *watch, return_exceptions=True)
        await doors.close()
    await own.settle()
    await keeper.last(state, own, doors.outbox)


async def _main(settings: Settings) -> int:
    stop = process.stop_event()
    logs.configure(settings.log_level, settings.log_format)
    try:
        bus = await connect(settings.nats_url, names.connection_name("master", "hub", str(os.getpid())))
    except BrokerError as error:
        log.error("no server", url=settings.nats_url, error=str(error))
        return process.NO_SERVER
    bus.on_closed.append(lambda: os._exit(process.NO_SERVER))
    try:
        await topology.ensure_hub(bus, replicas=settings.replicas)
        return await _lead(bus, settings, stop)
    except Deposed as error:
        log.warning("deposed", why=str(error))
        return process.DEPOSED
    except (BrokerError, Gap) as error:
        log.error("cannot lead", error=str(error))
        return process.DEPOSED
    finally:
        await bus.close()


def main(settings: Settings) -> int:
    """Run until stopped. Exit codes: 0 stopped, 5 no server, 70 deposed: start it again."""
    return process.run(_main(settings))
