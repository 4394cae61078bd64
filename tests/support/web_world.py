"""A web node as a process on a real nats-server; behind it a stand-in that writes the entries of the tiers.

async with web_world(tmp_path) as world:
    answer = await world.http.post("/api/tasks", json={"task_type": "add"})
    await world.run(ref, b"5")
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace

from echelon.errors import AlreadyEnded, EchelonError, NotFound, TaskIdConflict
from echelon.wire.api import (
    Act,
    ActAnswer,
    Admission,
    Done,
    End,
    Group,
    Refusal,
    Submission,
    SubmitAnswer,
    Where,
    act_request,
    fingerprint,
    submit_request,
)
from echelon.wire.child import ERROR, OK, Error, Outcomes, Ran, Started
from echelon.wire.codec import pack
from echelon.wire.names import CANCEL, PING, RETRY, SUBMIT, id_of, ref_of
from echelon_core import names
from echelon_core.entries import (
    Admitted,
    AdmittedGroup,
    Again,
    Delegated,
    Dependency,
    Ended,
    Epoch,
    Item,
    Redriven,
    RegionEpoch,
    Room,
    Settled,
    Verdicts,
    WorkerInfo,
)
from echelon_core.runs import first_run, next_run
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.lease import Lease
from echelon_infra.jetstream.log import Log
from echelon_infra.jetstream.topology import ensure_hub, ensure_region
from echelon_infra.server import free_port
from echelon_infra.settings import Settings, hand_down
from support.eventually import eventually
from support.lab import Lab, nats_lab

REGION = "east"
MAIN = "import sys; from echelon_infra.settings import handed_down as h; from echelon_web.run import main; "


class Tiers:
    """Admits what is submitted, and does with it what the test says."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.ledger = Log(bus, names.LEDGER, "stand-in")
        self.region = Log(bus, names.region_log(REGION), "stand-in")
        self.told = 0  # the last sequence of the outcomes
        self.tasks: dict[int, Submission] = {}
        self.runs: dict[int, int] = {}
        self.ids: dict[str, int] = {}
        self.ended: dict[int, str] = {}
        self.leading = True
        self._lock = asyncio.Lock()
        self._lease: Lease | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await ensure_hub(self.bus)
        await ensure_region(self.bus, REGION)
        await self.ledger.take_over(names.SYSTEM, pack(Epoch(1, "stand-in", time.time())))
        await self.region.take_over(
            names.region_subject(REGION), pack(RegionEpoch(1, "stand-in", time.time()))
        )
        for subject, answer in (
            (SUBMIT, self._submit),
            (CANCEL, self._cancel),
            (RETRY, self._retry),
            (PING, self._ping),
        ):
            await self.bus.subscribe(subject, self._door(answer))

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        if self._lease is not None:
            await self._lease.release()
        await self.ledger.close()
        await self.region.close()

    def _door(self, answer: Any) -> Any:
        async def reply(message: Message) -> None:
            if self.leading:
                self.bus.send(message.reply, await answer(message.data))

        def on_message(message: Message) -> None:
            self._keep(reply(message))

        return on_message

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ---------------------------------------------------------------------------- the master
    async def write(self, subject: str, entry: object) -> int:
        seq = self.ledger.append(subject, pack(entry))
        await self.ledger.settle()
        return seq

    async def _ping(self, data: bytes) -> bytes:
        return pack({"role": "master", "epoch": 1, "position": self.ledger.durable})

    async def _submit(self, data: bytes) -> bytes:
        async with self._lock:
            groups = [await self._admit(group) for group in submit_request(data).groups]
        return pack(SubmitAnswer(self.ledger.durable, groups))

    async def _admit(self, group: Group) -> Admission | Refusal:
        known: dict[int, int] = {}
        for index, task in enumerate(group.tasks):
            if (ref := self.ids.get(task.id)) is not None:
                if fingerprint(self.tasks[ref]) != fingerprint(task):
                    return TaskIdConflict(task.id).refusal()
                known[index] = ref
        new = [task for index, task in enumerate(group.tasks) if index not in known]
        if not new:
            return Admission(0, len(group.tasks), known)
        first = (self.ledger.last + 1) << 10
        for ref, task in enumerate(new, first):
            self.tasks[ref] = task
            self.ids[task.id or id_of(ref)] = ref
        needs = {
            index: [Dependency(on, "ok" if self.ended.get(on) == "ok" else "") for on in self._refs(task)]
            for index, task in enumerate(new)
            if task.dependencies
        }
        await self.write(
            names.ADMITTED, Admitted(time.time(), [AdmittedGroup(group.key, "", new, {}, needs)])
        )
        return Admission(first, len(group.tasks), known)

    def _refs(self, task: Submission) -> list[int]:
        return [self.ids[name] for name in task.dependencies]

    def ref(self, name: str) -> int | None:
        return self.ids.get(name, ref_of(name) if ref_of(name) in self.tasks else None)

    async def _cancel(self, data: bytes) -> bytes:
        return await self._act(act_request(data), self._cancelled)

    async def _retry(self, data: bytes) -> bytes:
        return await self._act(act_request(data), self._redriven)

    async def _act(self, act: Act, do: Any) -> bytes:
        items: list[Done | Refusal] = []
        for name in act.ids:
            ref = self.ref(name)
            try:
                if ref is None:
                    raise NotFound("task", name)
                items.append(Done(ref, await do(name, ref)))
            except EchelonError as error:
                items.append(error.refusal())
        return pack(ActAnswer(self.ledger.durable, items))

    async def _cancelled(self, name: str, ref: int) -> str:
        if ref in self.ended:
            raise AlreadyEnded(name, self.ended[ref])
        await self.settle([], [End(ref, "cancelled", "cancelled", "no longer wanted")])
        return "cancelled"

    async def _redriven(self, name: str, ref: int) -> str:
        self.ended.pop(ref, None)
        task = replace(self.tasks[ref], id=name if ref_of(name) is None else "")
        await self.write(names.ADMITTED, Redriven(time.time(), ref, task))
        return "ready"

    async def place(self, *refs: int) -> int:
        items = [Item(ref, self.tasks[ref].type, None, 5) for ref in refs]
        seq = await self.write(names.delegated(REGION), Delegated(time.time(), REGION, items))
        self.runs |= {ref: first_run(seq) for ref in refs}
        return seq

    async def settle(self, ok: list[Where], ended: list[End]) -> int:
        self.ended |= {ref: "ok" for where in ok for ref in where.refs} | {end.ref: end.kind for end in ended}
        entry = Settled(time.time(), REGION, self.region.durable, ok, ended)
        return await self.write(names.SETTLED, entry)

    # ---------------------------------------------------------------------------- the region
    async def tell(self, ran: list[Ran], starts: list[Started] | None = None, worker: str = "w-1") -> int:
        data = pack(Outcomes(worker, ran, starts or []))
        await self.bus.request(names.outcome_subject(REGION), data, timeout_s=5)
        self.told += 1
        return self.told

    async def judge(self, **what: Any) -> None:
        verdicts = Verdicts(self.ledger.durable, self.told, time.time(), what.pop("ok", []), **what)
        self.region.append(names.region_subject(REGION), pack(verdicts))
        await self.region.settle()

    async def start(self, ref: int) -> None:
        await self.tell([], [Started(ref, self.runs[ref], time.time())])

    async def succeed(self, *refs: int, result: bytes = b"null", blob: str = "") -> None:
        now = time.time()
        ran = [Ran(ref, self.runs[ref], OK, result, now - 0.02, now - 0.01, None, blob) for ref in refs]
        sequence = await self.tell(ran)
        await self.judge(ok=[(sequence, list(refs))])
        await self.settle([Where(REGION, sequence, list(refs))], [])

    async def err(self, ref: int, *, charged: int, due_s: float = 0.0, last: bool = False) -> None:
        now, run = time.time(), self.runs[ref]
        error = Error("ValueError", "smtp 421 too many connections", "Traceback …\nValueError: smtp 421")
        sequence = await self.tell([Ran(ref, run, ERROR, b"", now - 0.02, now - 0.01, error)])
        if last:
            await self.judge(ended=[Ended(ref, run, "dead", "error", sequence, charged, 0)])
            await self.settle([], [End(ref, "failed", "error", "", REGION, sequence)])
            return
        await self.judge(again=[Again(ref, run, "error", now + due_s, charged, 0, sequence)])
        self.runs[ref] = next_run(run)

    async def report(self, **room: Any) -> None:
        """Half a second of life: the region says what it has room for."""
        self.bus.send(names.room(REGION), pack(Room(REGION, 1, 1000, {"add": "async"}, 1, 4, **room)))

    async def staff(self, *types: str, busy: int = 0) -> None:
        """One worker with a lease, and a region that keeps reporting."""
        info = WorkerInfo(
            "w-1", REGION, "default", "host", 1, time.time(), {"async": 4}, dict.fromkeys(types, "async"),
            {"async": busy}, list(self.runs)[:busy], 12.0, 34.0,
        )  # fmt: skip
        self._lease = Lease(
            self.bus, names.worker_lease(REGION, "w-1"), ttl_s=6, renew_s=2, value=lambda: pack(info)
        )
        await self._lease.acquire()
        self._lease.start()

        async def reporting() -> None:
            while True:
                await self.report()
                await asyncio.sleep(0.5)

        self._keep(reporting())


class World:
    def __init__(self, lab: Lab, tiers: Tiers, folder: Path) -> None:
        self.lab = lab
        self.tiers = tiers
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.AsyncClient(base_url=self.url, timeout=10)
        self.settings = Settings(
            nats_url=lab.url, data=self.data, port=self.port, regions=(REGION,), log_format="text"
        )
        self._log = (folder / "web.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        environ = {**os.environ, **hand_down(self.settings)}
        command = [sys.executable, "-c", f"{MAIN} sys.exit(main(h()))"]
        self.process = subprocess.Popen(  # noqa: ASYNC220  takes a millisecond
            command, env=environ, stdout=self._log, stderr=self._log
        )
        await eventually(self.answers, 20)

    async def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "the web node has ended"
        try:
            return (await self.http.get("/health/ready")).status_code in (200, 503)
        except httpx.TransportError:
            return False

    async def ready(self) -> None:
        async def look() -> bool:
            return (await self.http.get("/health/ready")).status_code == 200

        await eventually(look, 20)

    async def stop(self, number: int = signal.SIGTERM, within_s: float = 5.0) -> int:
        """Its exit code."""
        process = self.process
        assert process is not None
        process.send_signal(number)
        try:
            return await asyncio.to_thread(process.wait, within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    async def submit(self, body: object) -> dict[str, Any]:
        answer = await self.http.post("/api/tasks", json=body)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def task(self, name: str) -> dict[str, Any]:
        answer = await self.http.get(f"/api/tasks/{name}")
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def until(self, name: str, **values: object) -> dict[str, Any]:
        """The task, once it has these."""

        async def look() -> dict[str, Any] | None:
            found = await self.task(name)
            return found if all(found[key] == value for key, value in values.items()) else None

        found = await eventually(look, 10)
        assert found is not None
        return found


@asynccontextmanager
async def web_world(folder: Path) -> AsyncIterator[World]:
    async with nats_lab(folder / "nats") as lab:
        tiers = Tiers(await lab.bus("stand-in"))
        await tiers.open()
        world = World(lab, tiers, folder)
        try:
            await world.start()
            yield world
        finally:
            await world.http.aclose()
            if world.process is not None and world.process.poll() is None:
                await world.stop()
            await tiers.close()
