"""The worker's main line: pull → hand out → collect → flush. It never runs user code and never waits for it.

    admit     a message may run: errands first if it needs any, then into its lane
    hand_out  to the child with most room, unopened; then ask for as much as credit allows
    collect   ended runs, unopened, to the outcomes; their message is acked when they are stored
    bury      a child is dead: the guilty run ends, the others go back

Everything is counted in runs, and nothing here costs a timer, a task or a line of log for each of them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Final

import msgspec

from echelon.wire.child import (
    CANCELLED,
    HANDED_BACK,
    Bundle,
    Executing,
    Kind,
    Ran,
    Started,
    bundle,
    encode_bundle,
    needs_errands,
)
from echelon.wire.child import started as decode_started
from echelon.wire.codec import pack
from echelon_core.entries import stop as decode_stop
from echelon_infra.jetstream.connection import Message
from echelon_infra.telemetry import logs
from echelon_worker import credit
from echelon_worker.burial import keys, last_words, untouched
from echelon_worker.children.child import Child
from echelon_worker.children.pool import Pool
from echelon_worker.chores import Chores
from echelon_worker.deadlines import Kill, Warn, due
from echelon_worker.errands import Errands
from echelon_worker.held import Begun, Held
from echelon_worker.orders import Orders
from echelon_worker.outcomes import Outcomes, keys_of
from echelon_worker.pressure import Level
from echelon_worker.pull import Intake

log = logs.get("worker")

_ran: Final = msgspec.msgpack.Decoder(Ran).decode


STALE_S: Final = 0.1
"""What has not begun by then is offered to others of the pool that have nothing to do."""
OFFER_S: Final = 0.25
LASTS_S: Final = 0.2
"""A run of this age is announced. Children of the async lane do that themselves."""


class Lane:
    """What a lane has: messages that wait for room in a child, and its pace."""

    __slots__ = ("offering", "pace", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Held] = deque()
        self.pace = credit.Pace()
        self.offering = False

    def stale(self, now: float) -> bool:
        """Has something waited for longer than it should? Then we took too much."""
        return bool(self.waiting) and now - self.waiting[0].received_at > STALE_S


class Supervisor:
    """`intake` brings messages, `pool` has the children, `outcomes` takes what became of the runs."""

    def __init__(self, intake: Intake, outcomes: Outcomes, errands: Errands, chores: Chores) -> None:
        self._intake = intake
        self._outcomes = outcomes
        self._errands = errands
        self._chores = chores
        self._tokens = itertools.count(1)
        self._fetching: set[Held] = set()
        self.pool: Pool
        intake.fresh = self.admit
        intake.gone = self.hand_out
        self.lanes: dict[str, Lane] = {}
        self.orders = Orders()
        self.pressure = Level.EASY
        self.open = False  # whether anything new may begin

    # ------------------------------------------------------------------ pull → hand out
    def admit(self, held: Held) -> None:
        lane = self.lanes[held.lane]
        lane.pace.arrived(held.runs)
        if needs_errands(held.data):
            self._fetching.add(held)
            self._chores.start(self._fetch(held))
            self._ask(held.lane, lane)
        else:
            self._line_up(held, lane)

    async def _fetch(self, held: Held) -> None:
        ready = await self._errands.fetch(held.data)
        if held not in self._fetching:
            return  # given back meanwhile
        self._fetching.discard(held)
        held.data = ready.data
        self._tell(held, ready.failed, done=not ready.runs)
        if ready.runs:
            self._line_up(held, self.lanes[held.lane])

    def _line_up(self, held: Held, lane: Lane) -> None:
        if self.orders and not self._strike(held):
            return
        lane.waiting.append(held)
        self.hand_out(held.lane)

    def hand_out(self, name: str) -> None:
        """Give what waits to children that have room, then ask for as much as credit allows."""
        lane = self.lanes.get(name)
        if lane is None:
            return  # the worker is still starting
        now = time.monotonic()
        if self.open and lane.waiting and not self._intake.slept(now):
            while lane.waiting and (child := self._roomiest(name, lane, now)) is not None:
                child.give(next(self._tokens), lane.waiting.popleft(), now)
        self._ask(name, lane)

    def _roomiest(self, name: str, lane: Lane, now: float) -> Child | None:
        children = self.pool.children[name]
        best = min((child for child in children if child.ready), key=lambda child: child.given, default=None)
        if best is None:
            return None
        silent_s = now - best.told_at
        return best if credit.fits(lane.pace, best.slots, len(children), best.given, silent_s) else None

    def _ask(self, name: str, lane: Lane) -> None:
        if not self.open or lane.stale(time.monotonic()) or self._outcomes.congested:
            self._intake.want(name, 0)
            return
        slots = sum(child.slots for child in self.pool.children[name] if child.ready)
        self._intake.want(name, credit.ask(lane.pace, slots, self._intake.runs[name], self.pressure.value))

    # ------------------------------------------------------------------ collect → flush
    def collect(self, child: Child, kind: int, token: int, count: int, body: bytes) -> None:
        """A frame from a child. The items in it are counted, not opened."""
        held = child.bundles.get(token)
        if held is None:
            return
        if kind == Kind.STARTED:
            starts = decode_started(body)
            held.begun.update({(one.ref, one.run): Begun(one.ref, one.run, one.at) for one in starts})
            self._outcomes.start(starts)
            return
        lane = self.lanes[held.lane]
        if kind == Kind.LARGE:
            ran = _ran(body)
            body = pack((ran.ref, ran.run))
            count = 1
            held.beside += 1
            self._chores.start(self._store(held, ran))
        if kind == Kind.DONE:
            del child.bundles[token]
            held.done = True
        else:
            held.reported.append((count, body))
        now = child.told_at = time.monotonic()
        child.given -= count
        self._intake.fewer(held, count)
        lane.pace.came_back(count, held.handed_at, now)
        if held.begun:
            for key in keys_of(count, body):
                held.begun.pop(key, None)
                self._outcomes.ended(key)
        if kind != Kind.LARGE:
            self._outcomes.add(held, count, body)
        self.hand_out(held.lane)

    async def _store(self, held: Held, ran: Ran) -> None:
        """A result too large for a message: into the object store first, then its end is told."""
        item = pack(await self._errands.store(ran))
        held.beside -= 1
        self._outcomes.add(held, 1, item)

    def _tell(self, held: Held, items: list[bytes], *, done: bool) -> None:
        """These runs of a message ended without a child's word; `done`: they were the last of it."""
        held.done = done
        self._intake.fewer(held, len(items))
        self._outcomes.add(held, len(items), b"".join(items))

    # ------------------------------------------------------------------ bury
    def bury(self, child: Child) -> None:
        """It is dead; all that it sent was collected."""
        if child.bundles:
            log.warning(
                "child died", child=child.pid, lane=child.lane, cause=child.cause, bundles=len(child.bundles)
            )
        for held, items in list(last_words(child)):
            for key in held.begun:
                self._outcomes.ended(key)
            self._tell(held, items, done=True)
        child.bundles.clear()
        if child.lane in self.lanes:
            self._ask(child.lane, self.lanes[child.lane])

    # ------------------------------------------------------------------ stop, pause, give back
    def on_order(self, message: Message) -> None:
        """The region wants these runs ended: those that wait never begin, children are told of the others."""
        new = self.orders.add(decode_stop(message.data).runs, time.monotonic())
        if not new:
            return
        for lane in self.lanes.values():
            lane.waiting = deque(held for held in lane.waiting if self._strike(held))
        for child in self.pool:
            if child.bundles:
                for run in new:
                    child.pipe.send(Kind.STOP, body=pack(run))

    def _strike(self, held: Held) -> bool:
        """Take runs that are ordered to stop out of a message that has not begun. False: nothing is left."""
        whole: Bundle = bundle(held.data)
        left = [run for run in whole.runs if (run.ref, run.run) not in self.orders.stops]
        if len(left) == len(whole.runs):
            return True
        struck = [(run.ref, run.run) for run in whole.runs if (run.ref, run.run) in self.orders.stops]
        held.data = encode_bundle(Bundle(whole.errands, left))
        self._tell(held, untouched(struck, CANCELLED), done=not left)
        return bool(left)

    def pause(self) -> list[Held]:
        """Begin nothing any more; returns what had not begun, out of this worker's hands."""
        self.open = False
        idle: list[Held] = []
        for name, lane in self.lanes.items():
            idle += lane.waiting
            lane.waiting.clear()
            self._ask(name, lane)
        return idle

    def resume(self) -> None:
        self.open = True
        for name in self.lanes:
            self.hand_out(name)

    def give_back(self, helds: list[Held]) -> None:
        """We decide never to start these; their acks follow when that is stored."""
        for held in helds:
            held.done = True
            runs = keys(held)
            self._intake.fewer(held, held.runs)
            self._outcomes.add(held, len(runs), b"".join(untouched(runs, HANDED_BACK)))

    async def drain(self, timeout_s: float) -> None:
        """End what runs, give back the rest; what still runs after `timeout_s` is killed and goes back."""
        self.give_back(self.pause())
        self.give_back(list(self._fetching))
        self._fetching.clear()
        self.pool.close()
        if not await self.pool.gone(timeout_s):
            for child in self.pool:
                child.kill(Kill(HANDED_BACK, 0, 0))
            await self.pool.gone()

    # ------------------------------------------------------------------ the time
    def watch(self) -> None:
        """Look at what the children are doing, ten times a second; end what has had long enough."""
        now = time.monotonic()
        for name, lane in self.lanes.items():
            self.hand_out(name)  # the pressure may have changed, or this process may have slept
            if self.open and lane.stale(now) and not lane.offering and not self._intake.asks(name):
                lane.offering = True
                self._chores.start(self._offer(name, lane))
        for child in self.pool:
            if not child.bundles or child.killed is not None:
                continue
            look = child.look(now)
            if child.lane == "sync" and look.page.busy and now - look.page.started >= LASTS_S:
                self._announce(child, look.page, now)
            verdict = due(look, self.orders.stops, now, shared=child.lane == "async")
            if isinstance(verdict, Kill):
                log.warning("killing a child", child=child.pid, status=verdict.status, ref=verdict.ref)
                child.kill(verdict)
            elif isinstance(verdict, Warn) and child.warned_beat != look.page.beat:
                child.warned_beat = look.page.beat
                log.warning("a task blocks the event loop", child=child.pid, ref=verdict.ref)

    def _announce(self, child: Child, page: Executing, now: float) -> None:
        """A blocking run lasts: its child has no thread to say so. It works its bundles off in order."""
        held = next(iter(child.bundles.values()))
        key = (page.ref, page.run)
        if key not in held.begun:
            at = time.time() - (now - page.started)
            held.begun[key] = Begun(page.ref, page.run, at)
            self._outcomes.start((Started(page.ref, page.run, at),))

    async def _offer(self, name: str, lane: Lane) -> None:
        """Give back what waits for too long, if others wait for work."""
        if await self._intake.others_idle(name) and self.open:
            before = time.monotonic() - STALE_S
            stale = [held for held in lane.waiting if held.received_at < before]
            for held in stale:
                lane.waiting.remove(held)
            self.give_back(stale)
            self._ask(name, lane)
        await asyncio.sleep(OFFER_S)
        lane.offering = False
