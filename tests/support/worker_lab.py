"""A real worker with real children on a real server; the test is the region: it releases bundles, reads
outcomes, answers questions, calls the roll, orders stops.

    async with worker_lab(tmp_path) as lab:
        worker = await lab.start()
        keys = await lab.release("quick", 3)
        await lab.ended(keys)
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from echelon.wire.child import Bundle, Input, Outcomes, Ran, Run, Started, encode_bundle, outcomes
from echelon_core import names
from echelon_core.entries import (
    Claim,
    Question,
    RollCall,
    Stop,
    Verdict,
    WorkerInfo,
    claim,
    encode,
    question,
    worker_info,
)
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.lease import read_lease
from echelon_infra.jetstream.tail import Entry, Tail
from echelon_infra.process import PARENT
from echelon_infra.settings import Settings, hand_down
from support.eventually import eventually
from support.lab import Lab, nats_lab

REGION = "east"
Key = tuple[int, int]
BEGIN = """
import sys
from echelon_infra.process import die_with_parent
from echelon_infra.settings import handed_down
from echelon_worker.run import main
die_with_parent()
sys.exit(main(handed_down()))
"""

APP = '''
import asyncio, ctypes, os, time
from pathlib import Path
from echelon import task

JOURNAL = os.open(Path(__file__).with_name("journal"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def note(n):
    os.write(JOURNAL, f"{n} {os.getpid()}\\n".encode())

@task
async def quick(n=0):
    note(n)
    return n

@task
async def lasting(n=0, s=0.3):
    note(n)
    await asyncio.sleep(s)
    return n

@task
async def stuck(n=0, s=3600):
    """Blocks the event loop, from its second step on."""
    note(n)
    await asyncio.sleep(0.01)
    time.sleep(s)

@task
def blocking(n=0, s=0.0):
    note(n)
    time.sleep(s)
    return n

@task
def segfault(n=0):
    note(n)
    print("about to fall", flush=True)
    ctypes.string_at(0)

@task
def large(n=0, size=300_000):
    return "x" * size

@task
def echo(value=None):
    return value

@task
def environment():
    return dict(os.environ)
'''


class Process:
    """A worker that was started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def exit_code(self, timeout_s: float = 15.0) -> int:
        await eventually(lambda: self.process.poll() is not None, timeout_s)
        return int(self.process.returncode)

    def said(self) -> str:
        return self.log.read_text()


class WorkerLab:
    def __init__(self, lab: Lab, bus: Bus, folder: Path) -> None:
        self.lab = lab
        self.bus = bus
        self.folder = folder
        self.app = folder / "app.py"
        self.ran: dict[Key, list[Ran]] = defaultdict(list)
        self.starts: list[Started] = []
        self.messages: list[Outcomes] = []
        self.claims: list[Claim] = []
        self.questions: list[Question] = []
        self.answer: Callable[[Question], Verdict | None] = yours
        self._ref = 1024
        self._processes: list[Process] = []

    # ------------------------------------------------------------------ workers
    def spawn(self, worker: str = "w1", *, url: str = "", **more: object) -> Process:
        """`more`: fields of Settings."""
        given = {"concurrency": 20, "processes": 1, "drain_timeout_s": 3.0, "app": str(self.app)} | more
        settings = Settings(nats_url=url or self.lab.url, region=REGION, worker_id=worker, **given)  # type: ignore[arg-type]
        log = self.folder / f"{worker}-{len(self._processes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", BEGIN],
                env=dict(os.environ) | hand_down(settings) | {PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=self.folder,
            )
        self._processes.append(Process(process, log))
        return self._processes[-1]

    async def start(self, worker: str = "w1", *, url: str = "", **more: object) -> Process:
        """Spawn, and wait until it pulls."""
        process = self.spawn(worker, url=url, **more)
        await eventually(lambda: '"ready"' in process.said() or process.process.poll() is not None, 20)
        assert process.process.poll() is None, process.said()
        return process

    async def info(self, worker: str = "w1") -> WorkerInfo | None:
        found = await read_lease(self.bus, names.worker_lease(REGION, worker))
        return None if found is None else worker_info(found[0])

    # ------------------------------------------------------------------ the region's part
    async def release(
        self, task_type: str, count: int = 1, *, lane: str = "", timeout_s: float = 300.0, **arguments: object
    ) -> list[Key]:
        """One bundle of `count` runs with n = 0, 1, 2 …"""
        runs = [self.run(task_type, {"n": n, **arguments}, timeout_s=timeout_s) for n in range(count)]
        return await self.put(runs, lane or ("sync" if task_type in SYNC else "async"))

    def run(
        self,
        task_type: str,
        payload: object,
        *,
        timeout_s: float = 300.0,
        blob: str = "",
        inputs: list[Input] | None = None,
    ) -> Run:
        self._ref += 1
        text = b"" if payload is None else json.dumps(payload).encode()
        return Run(self._ref, 7 * 1024 + 1, task_type, text, timeout_s, 1, blob=blob, inputs=inputs)

    async def put(self, runs: Sequence[Run], lane: str, *, errands: bool = False) -> list[Key]:
        data = encode_bundle(Bundle(errands, list(runs)))
        ack = await self.bus.request(names.work_subject(REGION, "default", lane), data, timeout_s=5)
        assert b'"error"' not in ack
        return [(run.ref, run.run) for run in runs]

    async def left(self) -> int:
        """Messages in the work queue that are not acked."""
        info = await self.bus.api(f"STREAM.INFO.{names.work(REGION)}")
        return int(info["state"]["messages"])

    async def ended(self, keys: Iterable[Key], timeout_s: float = 10.0) -> list[Ran]:
        """Their first outcomes, once all are there."""
        wanted = list(keys)
        await eventually(lambda: all(self.ran.get(key) for key in wanted), timeout_s)
        return [self.ran[key][0] for key in wanted]

    async def settled(self, keys: Iterable[Key], timeout_s: float = 10.0) -> list[Ran]:
        """As `ended`, and the work queue is empty."""
        ran = await self.ended(keys, timeout_s)
        await eventually(lambda: self._empty(), timeout_s)
        return ran

    async def _empty(self) -> bool:
        return not await self.left()

    async def stop(self, *runs: Key) -> None:
        await self.bus.publish(names.orders(REGION), encode(Stop(list(runs))))

    async def call_roll(self, number: int) -> Claim:
        await self.bus.publish(names.roll_call(REGION), encode(RollCall(number, 1)))
        return await eventually(lambda: next((one for one in self.claims if one.call == number), None))

    def journal(self) -> list[int]:
        """What was executed, by `n`."""
        path = self.folder / "journal"
        return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []

    # ------------------------------------------------------------------ what comes in
    async def open(self) -> None:
        await topology.ensure_hub(self.bus)
        await topology.ensure_region(self.bus, REGION)
        self._tail = Tail(self.bus, names.outcomes(REGION), after=0, deliver=self._learn)
        await self._tail.open()
        await self.bus.subscribe(names.claims(REGION), self._claimed)
        await self.bus.subscribe(names.questions(REGION), self._asked)

    def _learn(self, entries: list[Entry]) -> None:
        for entry in entries:
            message = outcomes(entry.data)
            self.messages.append(message)
            self.starts += message.starts
            for ran in message.ran:
                self.ran[(ran.ref, ran.run)].append(ran)

    def _claimed(self, message: Message) -> None:
        self.claims.append(claim(message.data))

    def _asked(self, message: Message) -> None:
        said = question(message.data)
        self.questions.append(said)
        if (verdict := self.answer(said)) is not None:
            self.bus.send(message.reply, encode(verdict))

    async def close(self) -> None:
        await self._tail.close()
        for process in self._processes:
            if process.process.poll() is None:
                os.killpg(process.process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.process.wait)


SYNC = frozenset(("blocking", "segfault", "large", "echo", "environment"))


def yours(asked: Question) -> Verdict:
    return Verdict(["yours"] * len(asked.messages), [runs for _, runs in asked.messages])


def silence(asked: Question) -> None:
    return None


def always(word: str) -> Callable[[Question], Verdict]:
    return lambda asked: Verdict([word] * len(asked.messages), [[] for _ in asked.messages])


def decoded(ran: Ran) -> object:
    return msgspec.json.decode(ran.result)


@asynccontextmanager
async def worker_lab(tmp_path: Path) -> AsyncIterator[WorkerLab]:
    async with nats_lab(tmp_path) as lab:
        folder = tmp_path / "worker"
        folder.mkdir()
        (folder / "app.py").write_text(APP)
        made = WorkerLab(lab, await lab.bus("region"), folder)
        await made.open()
        try:
            yield made
        finally:
            await made.close()
