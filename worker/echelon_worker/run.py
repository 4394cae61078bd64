"""The worker as a process: how its parts are wired, how it begins and how it ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
import uuid
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from echelon_core import names
from echelon_core.entries import WorkerInfo
from echelon_infra import process
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Bus, connect
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.settings import Settings
from echelon_infra.telemetry import logs
from echelon_worker import figures
from echelon_worker.children.pool import AppFailed, Pool
from echelon_worker.children.spawn import without_ours
from echelon_worker.chores import Chores
from echelon_worker.claims import Claims
from echelon_worker.doubts import Doubts
from echelon_worker.errands import Errands
from echelon_worker.lease import NameTaken, Presence
from echelon_worker.outcomes import Outcomes
from echelon_worker.pressure import Figures, Pressure
from echelon_worker.pull import Intake
from echelon_worker.supervisor import Lane, Supervisor

log = logs.get("worker")

_LOOK_S = 0.1
_LOOKS_A_SECOND = 10
_RELIEF_LOOKS = 100
_LAST_WORDS_S = 2.0
_RUNNING = 100


class Worker:
    """All parts of one worker, on one connection."""

    def __init__(self, bus: Bus, settings: Settings, worker: str) -> None:
        self.bus = bus
        self.settings = settings
        self.id = worker
        self.started_at = time.time()
        self.version = version("echelon-server")
        self.types: dict[str, str] = {}
        self.draining = False
        self.figures = Figures()
        self.pressure = Pressure()
        region = settings.region
        self.chores = chores = Chores()
        self.intake = Intake(bus, region, settings.pool)
        self.outcomes = Outcomes(bus, region, worker, chores, self.intake.over)
        self.supervisor = Supervisor(self.intake, self.outcomes, Errands(bus), chores)
        self.doubts = Doubts(bus, region, worker, self.intake, chores, self.supervisor.admit)
        self.claims = Claims(bus, region, worker, self.intake, self.doubts)
        self.pool = self.supervisor.pool = Pool(
            settings.app,
            {
                "async": [settings.concurrency] if settings.concurrency else [],
                "sync": [1] * settings.processes,
            },
            without_ours(os.environ, secrets_of(settings.nats_url)),
            chores,
            on_frame=self.supervisor.collect,
            on_ready=lambda child: self.supervisor.hand_out(child.lane),
            on_dead=self.supervisor.bury,
        )
        self.presence = Presence(bus, self.info, renew_s=settings.heartbeat_interval_s)
        self._keeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Load the application, take the lease, then pull.

        Raises:
            AppFailed: the application cannot be loaded.
            NameTaken: another living process has this worker's id.
            BrokerError: the broker was away for half a minute, or its streams are not ours.
        """
        settings = self.settings
        _, found = await asyncio.gather(self._prepare(), self.pool.start())
        lanes = self.pool.lanes
        self.types = {info.name: info.lane for info in found if info.lane in lanes}
        for lane in lanes:
            self.supervisor.lanes[lane] = Lane()
            await topology.ensure_lane(self.bus, settings.region, settings.pool, lane)
        await self.presence.acquire()
        await self.claims.start()
        await self.bus.subscribe(names.orders(settings.region), self.supervisor.on_order)
        await self.intake.start(lanes)
        self.supervisor.resume()
        self._keeping = self.chores.start(self._keep_presence())
        self.chores.start(self._look())
        log.info("ready", types=len(self.types), slots={lane: self.pool.slots(lane) for lane in lanes})

    async def _prepare(self) -> None:
        await topology.ensure_hub(self.bus, replicas=self.settings.replicas)
        await topology.ensure_region(self.bus, self.settings.region, replicas=self.settings.replicas)

    def info(self) -> WorkerInfo:
        """What the lease tells the world."""
        running: list[int] = []
        busy: dict[str, int] = {}
        for child in self.pool:
            busy[child.lane] = busy.get(child.lane, 0) + min(child.slots, child.given)
            running.extend(begun.ref for begun in child.begun)
        return WorkerInfo(
            id=self.id,
            region=self.settings.region,
            pool=self.settings.pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self.started_at,
            slots={lane: self.pool.slots(lane) for lane in self.pool.lanes},
            types=self.types,
            busy=busy,
            running=running[:_RUNNING],
            cpu=self.figures.cpu,
            memory=self.figures.memory,
            draining=self.draining,
            version=self.version,
        )

    async def _keep_presence(self) -> None:
        """When the lease is lost our work is others': begin nothing, ask before beginning what is here."""
        while True:
            await self.presence.lost()
            log.warning("lease lost")
            idle = self.supervisor.pause()
            await self.presence.acquire()
            for held in idle:
                self.doubts.add(held)
            self.supervisor.resume()
            log.info("lease taken again")

    async def _wake_up(self) -> None:
        """This process stood still for seconds. Is what it holds still ours? Ask, before more begins."""
        log.warning("this process stood still")
        idle = self.supervisor.pause()
        await self.presence.tell()
        for held in idle:
            self.doubts.add(held)
        if not self.presence.is_lost:
            self.supervisor.resume()

    async def _look(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            slept = self.intake.slept(time.monotonic())
            self.intake.awake_at = time.monotonic()
            if slept:
                await self._wake_up()
            self.supervisor.watch()
            looks += 1
            if looks % _LOOKS_A_SECOND == 0:
                now = time.monotonic()
                self.figures = figures.read()
                self.pressure = self.pressure.after(self.figures)
                self.supervisor.pressure = self.pressure.level
                self.supervisor.orders.expire(now)
                self.claims.keep_alive(now)
                self.pool.reap_silent()
                if self.pressure.full and looks % _RELIEF_LOOKS == 0:
                    await self.pool.relieve()

    async def drain(self) -> int:
        """Stop in good order; the exit code."""
        self.draining = True
        if self._keeping is not None:
            self._keeping.cancel()
        log.info("draining", running=self.info().busy)
        until = time.monotonic() + self.settings.drain_timeout_s
        self.supervisor.open = False
        await self.presence.tell()
        await self.intake.stop()
        self.doubts.abandon()
        await self.supervisor.drain(max(0.0, until - time.monotonic()))
        try:
            await asyncio.wait_for(self.outcomes.drain(), max(_LAST_WORDS_S, until - time.monotonic()))
        except TimeoutError:
            log.error("outcomes could not be stored; their runs will be run again")
            return process.NO_SERVER
        await self.presence.release()
        log.info("drained")
        return process.OK


def secrets_of(url: str) -> list[str]:
    """What nobody else may see of the broker's address: itself, and its passwords."""
    parts = [urlsplit(address if "//" in address else f"nats://{address}") for address in url.split(",")]
    return [url, *(part.password for part in parts if part.password)]


async def _either(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _serve(worker: Worker, stop: asyncio.Event) -> int:
    stopped = asyncio.ensure_future(stop.wait())
    beginning = asyncio.ensure_future(worker.begin())
    try:
        await _either(beginning, stopped)
        if not beginning.done():
            beginning.cancel()
            return process.OK
        beginning.result()
        await _either(worker.chores.failed, stopped)
        if worker.chores.failed.done():
            worker.chores.failed.result()
        return await worker.drain()
    except AppFailed as error:
        print(f"echelon worker: {worker.settings.app} cannot be loaded.\n{error}", file=sys.stderr)
        return process.BAD_INPUT
    except NameTaken as error:
        print(f"echelon worker: {error}", file=sys.stderr)
        return process.BAD_INPUT
    finally:
        stopped.cancel()
        worker.pool.kill_all()
        await worker.chores.cancel()


async def _main(settings: Settings) -> int:
    stop = process.stop_event()
    worker = settings.worker_id or f"w-{uuid.uuid4().hex[:8]}"
    logs.configure(settings.log_level, settings.log_format, {"region": settings.region, "worker": worker})
    name = names.connection_name("worker", settings.region, worker)
    try:
        bus = await connect(settings.nats_url, name)
    except BrokerError as error:
        log.error("no server", error=str(error))
        return process.NO_SERVER
    bus.on_closed.append(lambda: os._exit(process.NO_SERVER))
    try:
        return await _serve(Worker(bus, settings, worker), stop)
    except BrokerError as error:
        log.error("broker failed", error=str(error))
        return process.NO_SERVER
    finally:
        await bus.close()


def main(settings: Settings) -> int:
    """Run until stopped. Exit codes: 0 drained, 2 bad application or id, 5 no server, 6 stopped twice."""
    return process.run(_main(settings))
