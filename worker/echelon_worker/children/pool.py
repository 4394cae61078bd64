"""The children of a worker: one for coroutines with many slots, and several for blocking functions with one.

Each place in the pool has a child or is about to get one: a child that dies is replaced, at once if it died
of work, later and later if it keeps dying before it was given any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from echelon.wire.child import Kind, TypeInfo
from echelon.wire.child import hello as decode_hello
from echelon_infra.telemetry import logs
from echelon_worker.children.child import Child, connect
from echelon_worker.children.pipe import OnFrame
from echelon_worker.children.recycle import grown
from echelon_worker.children.spawn import spawn
from echelon_worker.chores import Chores

log = logs.get("worker")

YOUNG_S: Final = 10.0
BACKOFF_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class AppFailed(Exception):
    """The application cannot be loaded; the text is what the child said: its file and traceback."""


class Pool:
    """`slots`: lane -> slots of each of its children, one entry a child."""

    def __init__(
        self,
        app: str,
        slots: Mapping[str, list[int]],
        environ: Mapping[str, str],
        chores: Chores,
        *,
        on_frame: Callable[[Child, int, int, int, bytes], None],
        on_ready: Callable[[Child], None],
        on_dead: Callable[[Child], None],
    ) -> None:
        self._app = app
        self._slots = dict(slots)
        self._environ = environ
        self._chores = chores
        self._on_frame = on_frame
        self._on_ready = on_ready
        self._on_dead = on_dead
        self._deaths: dict[str, int] = {}
        self._closing = False
        self._empty = asyncio.Event()
        self._loaded: asyncio.Future[list[TypeInfo]] = asyncio.get_running_loop().create_future()
        self.children: dict[str, list[Child]] = {lane: [] for lane in slots}

    def __iter__(self) -> Iterator[Child]:
        for children in self.children.values():
            yield from children

    async def start(self) -> list[TypeInfo]:
        """Start all; returns what the application offers when the first child has loaded it.

        Lanes that it has no types for are closed again.

        Raises:
            AppFailed: a child could not load it, or died while it tried.
        """
        for lane, slots in self._slots.items():
            for number in slots:
                await self._spawn(lane, number)
        types = await self._loaded
        for lane in [lane for lane in self._slots if all(info.lane != lane for info in types)]:
            del self._slots[lane]
            for child in self.children[lane]:
                self.retire(child)
        return types

    def slots(self, lane: str) -> int:
        """Of the whole lane, children that are being replaced included."""
        return sum(self._slots.get(lane, ()))

    @property
    def lanes(self) -> list[str]:
        return list(self._slots)

    def retire(self, child: Child) -> None:
        """Let it end what it has begun; it gets nothing more and then exits."""
        child.retiring = True
        child.pipe.send(Kind.DRAIN)

    async def relieve(self) -> None:
        """Memory is nearly gone: replace the child that has grown most, if any has grown out of measure.

        The new one comes first, then the old one ends what it has begun and goes.
        """
        sizes = {child.pid: child.size() for child in self if child.ready}
        pid = grown(sizes)
        child = next((child for child in self if child.pid == pid), None)
        if child is not None:
            log.warning("recycling a child", child=pid, bytes=sizes[child.pid].now)
            await self._spawn(child.lane, child.slots)
            self.retire(child)

    def close(self) -> None:
        """No child is replaced from now on; all end what they have begun."""
        self._closing = True
        for child in self:
            self.retire(child)
        if not any(self):
            self._empty.set()

    async def gone(self, timeout_s: float | None = None) -> bool:
        """After `close`: wait until the last child is dead."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def reap_silent(self) -> None:
        """A child may be dead while something that it forked keeps its socket open: end that too."""
        for child in self:
            if child.exited:
                child.kill()

    def kill_all(self) -> None:
        for child in self:
            child.kill()

    async def _spawn(self, lane: str, slots: int) -> None:
        try:
            spawned = spawn(self._app, lane, slots, self._environ)
        except OSError as error:
            log.error("no child can be started", lane=lane, error=str(error))
            self._respawn(lane, slots)
            return
        child = await connect(spawned, lane, slots, self._receive, self._lost)
        self.children[lane].append(child)
        if self._closing:
            self.retire(child)

    def _receive(self, child: Child) -> OnFrame:
        def receive(kind: int, token: int, count: int, body: bytes) -> None:
            if kind == Kind.HELLO:
                child.hello = decode_hello(body)
                child.size()  # the application is loaded, nothing has run: what it is measured against
                if not self._loaded.done():
                    self._loaded.set_result(child.hello.types)
                if child.ready:
                    self._on_ready(child)
            elif kind == Kind.FAILED:
                child.failed = body.decode("utf-8", "replace")
            else:
                self._on_frame(child, kind, token, count, body)

        return receive

    def _lost(self, child: Child) -> None:
        self._chores.start(self._bury(child))

    async def _bury(self, child: Child) -> None:
        await child.reap()
        self.children[child.lane].remove(child)
        if self._closing and not any(self):
            self._empty.set()
        if not self._loaded.done():
            said = child.failed or f"{child.output.end}\nThe child {child.cause}."
            self._loaded.set_exception(AppFailed(said))
            return
        if child.failed:
            log.error("the application cannot be loaded any more", child=child.pid, error=child.failed)
        self._on_dead(child)
        if child.lane not in self._slots or child.retiring:
            return
        young = not child.told_at and asyncio.get_running_loop().time() - child.spawned_at < YOUNG_S
        self._deaths[child.lane] = self._deaths.get(child.lane, 0) + 1 if young else 0
        self._respawn(child.lane, child.slots)

    def _respawn(self, lane: str, slots: int) -> None:
        wait_s = BACKOFF_S[min(self._deaths.get(lane, 0), len(BACKOFF_S) - 1)]
        self._chores.start(self._spawn_later(lane, slots, wait_s))

    async def _spawn_later(self, lane: str, slots: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        if not self._closing:
            await self._spawn(lane, slots)
