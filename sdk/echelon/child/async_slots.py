"""The async lane: many runs share one loop, and a run that never waits costs little more than its call.

Bundles are begun run by run, back to back (`_burst`). What suspends goes on as a task of its own (`shell`)
while the rest of the bundle proceeds, at most `slots` at once. Outcomes of one turn of the loop leave in
one write. One coarse timer, only while something is suspended, looks at deadlines, announces what lasts
and gives up on what will not end.

A coroutine that will not end after it was cancelled cannot be removed: its outcome is reported, nothing new
is begun, and when its neighbours have ended, at the latest after RETIRE_S, the process leaves.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from functools import partial
from time import monotonic, time
from typing import Any, Final, cast

from echelon.child.frames import Frames, Sheaf
from echelon.child.outcome import Misfit, described, encoded, flush_prints, no_handler, overran, raised
from echelon.child.page import Page
from echelon.child.plan import Plan, first_step
from echelon.child.shell import Shell
from echelon.running import Context
from echelon.wire.child import (
    CANCELLED,
    FATAL,
    HANDED_BACK,
    OK,
    RETIRED,
    TIMEOUT,
    Kind,
    Run,
    Started,
    bundle,
    stop,
)
from echelon.wire.codec import pack

TICK_S: Final = 0.05
BURST_S: Final = 0.005
"""So long may runs that never wait keep the loop from those that do."""
LASTS_S: Final = 0.2
"""A run of this age is announced; shorter ones report start and end together."""
STOP_S: Final = 2.0
"""So long may a cancelled coroutine take to end."""
RETIRE_S: Final = 5.0
_NULL: Final = b"null"


class Live:
    """A run that is suspended. Times are monotonic."""

    __slots__ = ("announced", "context", "coroutine", "run", "sheaf", "started", "stop_by", "task", "wanted")

    def __init__(self, run: Run, sheaf: Sheaf, coroutine: Any, context: contextvars.Context, started: float):
        self.run = run
        self.sheaf = sheaf
        self.coroutine = coroutine
        self.context = context
        self.started = started
        self.task: asyncio.Task[None] | None = None
        self.announced = False
        self.wanted: int | None = None  # TIMEOUT or CANCELLED: it was told to end
        self.stop_by = 0.0

    def told(self) -> bool:
        return self.wanted is not None


class AsyncSlots(asyncio.Protocol):
    """The child's end of the socket, and everything that runs."""

    def __init__(self, plans: dict[str, Plan], slots: int, page: Page) -> None:
        self._plans = plans
        self._slots = slots
        self._page = page
        self._loop = asyncio.get_running_loop()
        self._base = contextvars.copy_context()
        self._frames = Frames()
        self._queue: deque[tuple[Sheaf, Run]] = deque()
        self._live: dict[tuple[int, int], Live] = {}
        self._shell = Shell(self._loop)
        self._dirty: dict[Sheaf, None] = {}
        self._flushing = False
        self._bursting = False
        self._ticking = False
        self._leave_with: int | None = None  # begin nothing any more, then exit with this code
        self._leave_by = 0.0
        self._wall = time() - monotonic()

    # ------------------------------------------------------------------ what the supervisor says
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        os._exit(0)  # nobody is left to report to

    def data_received(self, data: bytes) -> None:
        for kind, token, body in self._frames.feed(data):
            if kind == Kind.BUNDLE:
                runs = bundle(body).runs
                sheaf = Sheaf(token, len(runs))
                self._queue.extend([(sheaf, run) for run in runs])
            elif kind == Kind.STOP:
                self._stop(*stop(body))
            elif kind == Kind.DRAIN:
                self._leave(0)
        if self._queue and not self._bursting:
            self._burst()

    def _stop(self, ref: int, run: int) -> None:
        live = self._live.get((ref, run))
        if live is not None:
            self._tell(live, CANCELLED, monotonic())
            return
        for place in self._queue:
            sheaf, waiting = place
            if waiting.ref == ref and waiting.run == run:
                self._queue.remove(place)
                sheaf.add(waiting, CANCELLED, b"", 0.0, 0.0)
                self._soon(sheaf)
                return

    # ---------------------------------------------------------------------------------- beginning
    def _burst(self) -> None:
        """Begin what waits: until the slots are full or the loop has other things to do."""
        self._bursting = False
        queue, live, page, plans, copy = self._queue, self._live, self._page, self._plans, self._base.copy
        shell = self._shell
        if shell.task.done() or not shell.blank:
            shell = Shell(self._loop)
        now = monotonic()
        wall = self._wall = time() - now
        until = now + BURST_S
        if self._leave_with is not None:
            queue.clear()
        _enter_task(self._loop, shell.task)
        while queue and now < until and len(live) < self._slots:
            if not shell.blank:  # spoilt by a handler that then ended without waiting for it
                shell = self._change(shell)
            sheaf, run = queue.popleft()
            page.begin(run, now)
            variables = copy()
            context = Context(run)
            plan = plans.get(run.type)
            try:
                if plan is None:
                    raise Misfit(no_handler(run.type))
                args, kwargs = plan.arguments(run, context)
                coroutine, value = variables.run(first_step, plan.function, args, kwargs, context)
            except BaseException as error:  # noqa: BLE001  user code may raise anything
                began, now = now, monotonic()
                self._failed(sheaf, run, began + wall, now + wall, error)
                continue
            began, now = now, monotonic()
            if coroutine is None:
                if value is None:
                    sheaf.add(run, OK, _NULL, began + wall, now + wall)
                else:
                    self._succeeded(sheaf, run, began + wall, now + wall, value)
                self._dirty[sheaf] = None
            else:
                self._suspended(Live(run, sheaf, coroutine, variables, began), shell, value, context)
                shell = self._change(shell)
        _leave_task(self._loop, shell.task)
        page.rest()
        self._shell = shell
        self._flush()
        if queue and len(live) < self._slots:
            self._again()

    def _change(self, shell: Shell) -> Shell:
        _leave_task(self._loop, shell.task)
        fresh = Shell(self._loop)
        _enter_task(self._loop, fresh.task)
        return fresh

    def _again(self) -> None:
        if not self._bursting:
            self._bursting = True
            self._loop.call_soon(self._burst)

    def _suspended(self, live: Live, shell: Shell, waits_for: Any, context: Context) -> None:
        live.task = shell.task
        context._stopped = live.told
        self._live[live.run.ref, live.run.run] = live
        shell.take(partial(self._step, live), waits_for)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)

    # ---------------------------------------------------------------------------- going on, ending
    def _step(self, live: Live, error: BaseException | None) -> Any:
        """One step of a suspended coroutine, called by its task."""
        self._page.begin(live.run, live.started)
        try:
            if error is None:
                return live.context.run(live.coroutine.send, None)
            return live.context.run(live.coroutine.throw, error)
        except StopIteration as end:
            self._ended(live, end.value, None)
        except BaseException as raised_:  # noqa: BLE001  user code may raise anything
            self._ended(live, None, raised_)
        finally:
            self._page.rest()
        raise StopIteration

    def _ended(self, live: Live, value: Any, error: BaseException | None) -> None:
        run = live.run
        if self._live.pop((run.ref, run.run), None) is None:
            return  # given up before
        began, now = live.started + self._wall, monotonic() + self._wall
        if live.wanted == TIMEOUT:
            live.sheaf.add(run, TIMEOUT, b"", began, now, overran(run.timeout_s, error))
        elif error is None:
            self._succeeded(live.sheaf, run, began, now, value)
        elif live.wanted == CANCELLED:
            live.sheaf.add(run, CANCELLED, b"", began, now, described(error))
        else:
            self._failed(live.sheaf, run, began, now, error)
        self._soon(live.sheaf)
        if self._queue:
            self._again()

    def _succeeded(self, sheaf: Sheaf, run: Run, began: float, ended: float, value: Any) -> None:
        text, unsayable = encoded(value)
        sheaf.add(run, OK if unsayable is None else FATAL, text, began, ended, unsayable)

    def _failed(self, sheaf: Sheaf, run: Run, began: float, ended: float, error: BaseException) -> None:
        status, told = raised(error)
        sheaf.add(run, status, b"", began, ended, told)
        self._dirty[sheaf] = None

    # ------------------------------------------------------------------------------------ telling
    def _soon(self, sheaf: Sheaf) -> None:
        """Send with whatever else ends in this turn of the loop."""
        self._dirty[sheaf] = None
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._dirty:
            sent = b"".join([sheaf.take() for sheaf in self._dirty])
            self._dirty.clear()
            if sent:
                self._transport.write(sent)

    # --------------------------------------------------------------------------------- the timer
    def _tick(self) -> None:
        now = monotonic()
        starts: dict[Sheaf, list[Started]] = {}
        for live in list(self._live.values()):
            if not live.announced and now - live.started >= LASTS_S:
                live.announced = True
                begun = Started(live.run.ref, live.run.run, live.started + self._wall)
                starts.setdefault(live.sheaf, []).append(begun)
            if live.wanted is None:
                if now - live.started >= live.run.timeout_s:
                    self._tell(live, TIMEOUT, now)
            elif now >= live.stop_by:
                self._give_up(live)
        if starts:
            self._transport.write(b"".join([sheaf.starts(pack(begun)) for sheaf, begun in starts.items()]))
        if self._leave_with is not None:
            self._try_to_leave(now)
        if self._live or self._leave_with is not None:
            self._loop.call_later(TICK_S, self._tick)
        else:
            self._ticking = False

    def _tell(self, live: Live, wanted: int, now: float) -> None:
        """Cancel a run, once."""
        if live.wanted is None:
            live.wanted = wanted
            live.stop_by = now + STOP_S
            assert live.task is not None
            live.task.cancel()

    def _give_up(self, live: Live) -> None:
        """It was cancelled and goes on regardless."""
        ended = asyncio.CancelledError("The coroutine went on after it was cancelled; its process was ended.")
        self._ended(live, None, ended)
        self._leave(RETIRED)

    def _leave(self, code: int) -> None:
        self._leave_with = max(code, self._leave_with or 0)
        self._leave_by = min(self._leave_by or float("inf"), monotonic() + RETIRE_S) if code else 0.0
        self._queue.clear()
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)

    def _try_to_leave(self, now: float) -> None:
        if self._leave_by and now >= self._leave_by:
            for live in list(self._live.values()):
                del self._live[live.run.ref, live.run.run]
                live.sheaf.add(live.run, HANDED_BACK, b"", 0.0, 0.0)
                self._soon(live.sheaf)
        if self._live or self._dirty or self._transport.get_write_buffer_size():
            return
        flush_prints()
        os._exit(self._leave_with or 0)
