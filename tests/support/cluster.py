"""A whole Echelon, started through the real `echelon up` in a folder of its own, and ended without a trace.

    async with cluster(tmp_path, app=FILE) as c:
        async with c.client() as client: ...
        c.kill("nats-server")

Nothing of it may outlive the test: what is still there after `up` has ended is an error of the product.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from echelon import Client
from echelon_ops.folder import Run, Server, running, write_private
from echelon_ops.ports import any_free
from support.eventually import eventually

START_S = 30.0
STOP_S = 15.0
ECHELON = str(Path(sys.executable).with_name("echelon"))


class Cluster:
    """`up` as a process. `more` are further arguments for it."""

    def __init__(
        self,
        folder: Path,
        *,
        app: Path | str = "",
        regions: str = "east,west",
        workers: int = 1,
        more: Sequence[str] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / ".echelon"
        self._command = [ECHELON, "up", "--data", str(self.data), "--port", "0"]
        self._command += ["--regions", regions, "--workers", str(workers), *more]
        self._command += ["--app", str(app)] if app else []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ECHELON_")}
        self.environ = {**inherited, **(environ or {})}
        self.regions = regions.split(",")
        self.workers = workers
        self._up: subprocess.Popen[bytes] | None = None
        self._said = folder / "up.txt"
        self._family: dict[int, float] = {}  # pid -> when it was created, of all that was ever seen

    # ---------------------------------------------------------------- life
    def _take_a_port(self) -> None:
        """For the nats-server, from the outset: the next free default port may be another test's tomorrow."""
        if not (self.data / "nats.json").exists():
            self.data.mkdir(mode=0o700, exist_ok=True)
            server = Server(any_free("127.0.0.1"), "echelon", secrets.token_urlsafe(24))
            write_private(self.data / "nats.json", msgspec.json.encode(server))

    def spawn(self) -> None:
        self._take_a_port()
        with open(self._said, "ab") as said:
            self._up = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def start(self) -> None:
        self.spawn()
        await self.ready()

    async def ready(self) -> None:
        """Everybody is there: regions report, workers have leases."""
        wanted = len(self.regions) * self.workers

        async def there() -> bool:
            assert self.alive(), f"echelon up ended with {self.code()}:\n{self.said()}"
            if running(self.data) is None:
                return False
            workers = await self.try_get("/api/workers")
            return workers is not None and len(workers["items"]) >= wanted

        await eventually(there, timeout_s=START_S, every_s=0.1)
        self._remember()

    async def stop(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C; the exit code."""
        assert self._up is not None
        self._remember()
        if self.alive():
            self._up.send_signal(number)
        return await asyncio.to_thread(self._up.wait, STOP_S)

    async def vanished(self) -> None:
        """What the kernel kills with its parent takes a moment."""
        await eventually(lambda: not self.left(), timeout_s=3)

    def end(self) -> None:
        """Whatever happened: by process id, and only what was seen to be ours."""
        if self._up is not None and self._up.poll() is None:
            self._remember()
            self._up.kill()
            self._up.wait()
        for process in self.left():
            process.kill()

    def left(self) -> list[psutil.Process]:
        """Processes of this cluster that are still there."""
        return [process for process in map(_process, self._family) if process and self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            created = process.create_time()
            return process.status() != psutil.STATUS_ZOMBIE and created == self._family[process.pid]
        except psutil.NoSuchProcess:
            return False

    def _remember(self) -> None:
        for process in self.processes():
            try:
                self._family[process.pid] = process.create_time()
            except psutil.NoSuchProcess:
                pass

    def alive(self) -> bool:
        return self._up is not None and self._up.poll() is None

    def code(self) -> int | None:
        return self._up.poll() if self._up is not None else None

    @property
    def up_pid(self) -> int:
        assert self._up is not None
        return self._up.pid

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    # ---------------------------------------------------------------- what runs
    @property
    def run(self) -> Run:
        run = running(self.data)
        assert run is not None, f"nothing runs in {self.data}:\n{self.said()}"
        return run

    @property
    def url(self) -> str:
        return self.run.url

    @property
    def nats_url(self) -> str:
        return self.run.nats_url

    def pids(self) -> dict[str, int]:
        """By name: nats-server master regional-east worker-east-1 web …"""
        return {name: process.pid for name, process in self.run.processes.items()}

    def processes(self) -> Iterator[psutil.Process]:
        """`up` and everything below it."""
        if (up := _process(self._up.pid if self._up else 0)) is not None:
            yield up
            try:
                yield from up.children(recursive=True)
            except psutil.NoSuchProcess:
                pass

    def children_of(self, name: str) -> list[int]:
        """Process ids below one of ours: a worker's children."""
        process = _process(self.pids()[name])
        try:
            return [child.pid for child in process.children(recursive=True)] if process else []
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """One process by its name in `pids()`; its id."""
        self._remember()
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    async def back(self, name: str, was: int, timeout_s: float = 20.0) -> None:
        """Wait until another process bears this name."""

        async def another() -> bool:
            now = running(self.data)
            pid = now.processes[name].pid if now is not None and name in now.processes else was
            return pid not in (was, 0) and psutil.pid_exists(pid)

        await eventually(another, timeout_s=timeout_s)

    def log(self, name: str) -> str:
        return (self.data / "logs" / f"{name}.log").read_text(errors="replace")

    # ---------------------------------------------------------------- talking to it
    def client(self) -> Client:
        return Client(self.nats_url)

    async def get(self, path: str) -> Any:
        return (await asyncio.to_thread(_http, "GET", self.url + path, None))[1]

    async def try_get(self, path: str) -> Any:
        """The decoded answer, or None while nothing answers well."""
        try:
            status, body = await asyncio.to_thread(_http, "GET", self.url + path, None)
        except OSError:
            return None
        return body if status == 200 else None

    async def ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, Any]:
        """Status and decoded answer, whatever they are."""
        return await asyncio.to_thread(_http, method, self.url + path, data)

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and decoded answer; `body` may be bytes, sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", path, data)

    async def ended(self, task_id: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """The task, once it has ended."""
        seen: dict[str, Any] = {}

        async def over() -> bool:
            seen.update((await self.try_get(f"/api/tasks/{task_id}")) or {})
            return seen.get("status") in ("completed", "failed", "cancelled")

        try:
            await eventually(over, timeout_s=timeout_s, every_s=0.05)
        except AssertionError:
            raise AssertionError(f"{task_id} has not ended in {timeout_s} s: {seen}") from None
        return seen


@asynccontextmanager
async def cluster(folder: Path, **options: Any) -> AsyncIterator[Cluster]:
    """Options as for `Cluster`. Leaves by Ctrl-C, checks the exit code and that nothing is left behind."""
    made = Cluster(folder, **options)
    try:
        await made.start()
        yield made
        if made.alive():
            code = await made.stop()
            assert code == 0, f"echelon up ended with {code}:\n{made.said()}"
        await made.vanished()
    finally:
        made.end()


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid) if pid else None
    except psutil.NoSuchProcess:
        return None


def _http(method: str, url: str, data: bytes | None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")
