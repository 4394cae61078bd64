"""One child as the supervisor knows it: its process, what it was given, what its page says."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Final

import psutil

from echelon.wire.child import Executing, Hello, Kind, executing
from echelon_infra.telemetry import logs
from echelon_worker.children.output import Output
from echelon_worker.children.pipe import OnFrame, Pipe
from echelon_worker.children.recycle import Size
from echelon_worker.children.spawn import Spawned, kill
from echelon_worker.deadlines import Kill, Look, look
from echelon_worker.held import Begun, Held

log = logs.get("worker")

_REAP_S: Final = 0.002


class Child:
    """Made by `connect`. `hello` is None until it has loaded the application."""

    def __init__(self, spawned: Spawned, lane: str, slots: int, now: float) -> None:
        self.lane = lane
        self.slots = slots
        self.spawned_at = now
        self.hello: Hello | None = None
        self.failed = ""  # why it could not load the application
        self.bundles: dict[int, Held] = {}  # token -> what it has, in the order given
        self.given = 0  # runs of these that are not reported
        self.told_at = 0.0  # when it last told an end, or was given something to do
        self.looked: Look | None = None
        self.warned_beat = -1
        self.killed: Kill | None = None
        self.retiring = False  # ends what it has, gets nothing more
        self._process = spawned.process
        self._page = spawned.page
        self._statistics = psutil.Process(spawned.process.pid)
        self._first_size = 0
        self.output = Output(spawned.output, spawned.process.pid)
        self.pipe: Pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ready(self) -> bool:
        return self.hello is not None and not self.retiring and self.killed is None

    @property
    def begun(self) -> Iterator[Begun]:
        """Runs that are known to last, over all its bundles."""
        for held in self.bundles.values():
            yield from held.begun.values()

    def give(self, token: int, held: Held, now: float) -> None:
        if not self.bundles:
            self.told_at = now
        self.bundles[token] = held
        self.given += held.runs
        held.handed_at = now
        self.pipe.send(Kind.BUNDLE, token, held.runs, held.data)

    def look(self, now: float) -> Look:
        self.looked = look(self.looked, self.page, now)
        return self.looked

    def size(self) -> Size:
        """Memory that is its own, in bytes: at the first look, and now."""
        try:
            now = self._statistics.memory_info().rss
        except psutil.NoSuchProcess:
            now = 0
        self._first_size = self._first_size or now
        return Size(self._first_size, now)

    def kill(self, why: Kill | None = None) -> None:
        """End it and what it started. `why`: whom for; None: because all of us end."""
        if self.killed is None:
            self.killed = why
        kill(self._process)

    @property
    def page(self) -> Executing:
        """What it is doing, or was when it died."""
        return executing(self._page)

    @property
    def exited(self) -> bool:
        return self._process.poll() is not None

    async def reap(self) -> None:
        """After its pipe was closed: end what is left of it, wait for its exit code, read its last words."""
        kill(self._process)
        while True:
            if self.exited:
                break
            await asyncio.sleep(_REAP_S)  # its descriptors are closed a moment before it can be reaped
        self.output.rest()
        self.output.close()

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    @property
    def cause(self) -> str:
        """How it ended, in words: "killed by SIGSEGV", "exited with code 3"."""
        code = self._process.returncode
        if code is not None and code < 0:
            try:
                return f"killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"exited with code {code}"


async def connect(
    spawned: Spawned,
    lane: str,
    slots: int,
    on_frame: Callable[[Child], OnFrame],
    on_lost: Callable[[Child], None],
) -> Child:
    """Begin to talk with a child that was spawned. `on_lost`: it has closed its end, after its last frame."""
    loop = asyncio.get_running_loop()
    child = Child(spawned, lane, slots, loop.time())
    child.pipe = Pipe(on_frame(child), lambda: on_lost(child))
    await loop.create_unix_connection(lambda: child.pipe, sock=spawned.socket)
    return child
