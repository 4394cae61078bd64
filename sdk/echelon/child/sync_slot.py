"""The sync lane: one run at a time in the main thread, where signals, profilers and C libraries expect it.

No second thread reads the socket: it is looked at between runs, and by a handler that asks `ctx.cancelled`.
What blocks too long is the supervisor's affair: it sees in the shared page who has the thread, and ends the
process.
"""

from __future__ import annotations

import contextvars
import os
import socket
import threading
from collections import deque
from time import monotonic, time
from typing import Any, Final

from echelon.child.frames import Frames, Sheaf
from echelon.child.outbox import Outbox
from echelon.child.outcome import Misfit, encoded, flush_prints, no_handler, raised
from echelon.child.page import Page
from echelon.child.plan import Plan, call
from echelon.running import Context
from echelon.wire.child import CANCELLED, FATAL, OK, Error, Kind, Run, bundle, stop

LOOK_S: Final = 0.001
"""At most so often the socket is looked at between runs."""
ASK_S: Final = 0.01
"""… and for a handler that asks whether it was cancelled."""
_READ: Final = 1 << 18


class SyncSlot:
    """The child's end of the socket, and the one run."""

    def __init__(self, plans: dict[str, Plan], page: Page, sock: socket.socket) -> None:
        self._plans = plans
        self._page = page
        self._sock = sock
        self._base = contextvars.copy_context()
        self._frames = Frames()
        self._queue: deque[tuple[Sheaf, Run]] = deque()
        self._running: tuple[int, int] | None = None
        self._stopped = False
        self._draining = False
        self._looking = threading.Lock()  # the handler may ask from a thread of its own
        self._looked = 0.0
        self._outbox = Outbox(sock)
        self._wall = time() - monotonic()

    def serve(self) -> None:
        """Until the supervisor says so, or is gone."""
        while True:
            if not self._queue:
                self._outbox.flush()
                if self._draining:
                    flush_prints()
                    return
                self._wall = time() - monotonic()
                self._look(wait=True)
                continue
            now = monotonic()
            if now - self._looked >= LOOK_S:
                self._look(wait=False)
                if not self._queue:
                    continue
            sheaf, run = self._queue.popleft()
            self._execute(sheaf, run, now)

    def _look(self, *, wait: bool) -> None:
        """Read the frames that are there; at the end of the stream the process ends, for nobody listens."""
        with self._looking:
            try:
                data = self._sock.recv(_READ, 0 if wait else socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                self._looked = monotonic()
                return
            except OSError:
                data = b""
            if not data:
                os._exit(0)
            self._looked = monotonic()
            for kind, token, body in self._frames.feed(data):
                self._obey(kind, token, body)

    def _obey(self, kind: int, token: int, body: bytes) -> None:
        if kind == Kind.BUNDLE and not self._draining:
            runs = bundle(body).runs
            sheaf = Sheaf(token, len(runs))
            self._queue.extend([(sheaf, run) for run in runs])
        elif kind == Kind.DRAIN:
            self._draining = True
            self._queue.clear()
        elif kind == Kind.STOP:
            self._stop(stop(body))

    def _stop(self, key: tuple[int, int]) -> None:
        if key == self._running:
            self._stopped = True
            return
        for place in self._queue:
            sheaf, run = place
            if (run.ref, run.run) == key:
                self._queue.remove(place)
                self._outbox.add(sheaf, run, CANCELLED, b"", 0.0, 0.0)
                return

    def _told(self) -> bool:
        """`ctx.cancelled`."""
        if not self._stopped and monotonic() - self._looked >= ASK_S:
            self._look(wait=False)
        return self._stopped

    def _execute(self, sheaf: Sheaf, run: Run, began: float) -> None:
        self._running = (run.ref, run.run)
        self._stopped = False
        context = Context(run, self._told)
        told: Error | None = None
        value: Any = None
        status = OK
        self._page.begin(run, began)
        try:
            plan = self._plans.get(run.type)
            if plan is None:
                raise Misfit(no_handler(run.type))
            args, kwargs = plan.arguments(run, context)
            value = self._base.copy().run(call, plan.function, args, kwargs, context)
        except BaseException as error:  # noqa: BLE001  user code may raise anything
            status, told = raised(error)
        text = b""
        if told is None:
            text, told = (b"null", None) if value is None else encoded(value)
            status = OK if told is None else FATAL
        elif self._stopped:
            status = CANCELLED
        ended = monotonic()
        self._page.rest()
        self._running = None
        self._outbox.add(sheaf, run, status, text, began + self._wall, ended + self._wall, told)
