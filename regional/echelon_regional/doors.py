"""Where a region's leader meets the world: tails and requests in; bundles, reports and orders out."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Iterator

from echelon.wire.child import Outcomes, outcomes
from echelon.wire.codec import pack
from echelon_core import names
from echelon_core.entries import (
    Admitted,
    Claim,
    LedgerEntry,
    Redriven,
    RegionEntry,
    Room,
    Stop,
    Verdicts,
    claim,
    encode,
    ledger_entry,
    offer,
    worker_info,
)
from echelon_core.fold import Step
from echelon_core.runs import index_of
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.log import Log
from echelon_infra.jetstream.tail import Entry, Tail
from echelon_infra.jetstream.tasks import set_within
from echelon_infra.leader.lead import Arrivals, Outbox
from echelon_infra.telemetry import logs
from echelon_regional.bundle import Means
from echelon_regional.decide import Inputs, Region
from echelon_regional.release import propose
from echelon_regional.state import Kind, RegionState, Task
from echelon_regional.takeback import Fleet
from echelon_regional.window import Window, credit

log = logs.get("regional")

REPORT_S = 0.5
STOP_AGAIN_S = 1.0
STRANDED_S = 5.0
ENTRIES_KEPT = 64
GATHER_S = 0.004
"""Verdicts that hold nobody up are written together."""


class Payloads:
    """Payloads that lie in the ledger, read back by sequence just before release. Keeps decoded entries."""

    def __init__(self, bus: Bus, arrivals: Arrivals[Inputs]) -> None:
        self._bus = bus
        self._arrivals = arrivals
        self._entries: OrderedDict[int, LedgerEntry] = OrderedDict()
        self._under_way: dict[int, asyncio.Task[None]] = {}

    def find(self, task: Task) -> bytes | None:
        entry = self._entries.get(task.source)
        if isinstance(entry, Redriven):
            return entry.task.payload
        if isinstance(entry, Admitted):
            index = index_of(task.ref)
            for group in entry.groups:
                if index < len(group.tasks):
                    return group.tasks[index].payload
                index -= len(group.tasks)
        if task.source not in self._under_way:
            self._under_way[task.source] = asyncio.create_task(self._fetch(task.source))
        return None

    async def _fetch(self, source: int) -> None:
        try:
            found = await tail.get(self._bus, names.LEDGER, source)
            if found is not None:
                self._entries[source] = ledger_entry(found.data)
                while len(self._entries) > ENTRIES_KEPT:
                    self._entries.popitem(last=False)
            else:
                log.error("payload gone", ledger=source)
        except BrokerError as error:
            log.warning("payload not read yet", ledger=source, error=str(error))
            await asyncio.sleep(0.2)
        finally:
            del self._under_way[source]
            self._arrivals.wake()


class Floor:
    """The leader at work: what came in becomes inputs, what may go is released, what is so is reported."""

    def __init__(self, bus: Bus, region: str, state: RegionState, own: Log, work: Log) -> None:
        self.bus = bus
        self.region = region
        self.state = state
        self.fold = Region(state)
        self.own = own
        self.work = work
        self.leases: Tail  # of the workers' leases; opened by run.py
        self.outbox = Outbox()
        self.arrivals: Arrivals[Inputs] = Arrivals(Inputs, tick_s=0.05)
        self.fleet = Fleet()
        self.means = Means()
        self.windows: dict[str, Window] = {}
        self.payloads = Payloads(bus, self.arrivals)
        self.open_at = 0  # nothing is released before outcomes were judged up to here
        self.judged_tasks = 0
        self.not_durable: deque[tuple[int, Verdicts]] = deque()
        self.lanes: dict[Kind, str] = {}
        self.slots: dict[str, int] = {}
        self._lanes_made: set[str] = set()
        self._offered_at: dict[Kind, float] = {}
        self._judged: list[tuple[int, asyncio.Event]] = []
        self._judged_at = 0.0
        self._report_now = asyncio.Event()
        self.call_wanted = asyncio.Event()
        self.suspects: dict[str, float] = {}
        own.on_durable = self._durable

    # --------------------------------------------- the fold, with what is not durable yet
    def decide(self, inputs: Inputs, now: float) -> Iterator[Step]:
        return self.fold.decide(inputs, now)

    def apply(self, seq: int, entry: RegionEntry) -> None:
        self.fold.apply(seq, entry)
        if isinstance(entry, Verdicts):
            self.not_durable.append((seq, entry))
            self.judged_tasks += sum(len(refs) for _, refs in entry.ok) + len(entry.ended) + len(entry.again)

    def _durable(self, seq: int) -> None:
        while self.not_durable and self.not_durable[0][0] <= seq:
            self.not_durable.popleft()
        self.outbox.release(seq)
        if self.state.later:
            self.arrivals.wake()

    def closing(self) -> set[int]:
        """Refs whose newest verdict is not durable yet."""
        found: set[int] = set()
        for _, entry in self.not_durable:
            for _, refs in entry.ok:
                found.update(refs)
            found.update(end.ref for end in entry.ended)
            found.update(again.ref for again in entry.again)
            found.update(back.ref for back in entry.returned)
        return found

    # ------------------------------------------------------------------ in
    def on_ledger(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.data:
                self.state.absorb(entry.seq, ledger_entry(entry.data))
        if self.state.cancelling:
            self.order_stops()
        self.arrivals.wake()

    def on_outcomes(self, entries: list[Entry]) -> None:
        now = time.time()
        for entry in entries:
            message = outcomes(entry.data)
            self._learn(message, now)
            self.arrivals.inputs.outcomes.append((entry.seq, message))
        self._judge_soon()

    def _judge_soon(self) -> None:
        """At once if something waits for the room this makes, or after a pause; else together."""
        loop = asyncio.get_running_loop()
        due = self._judged_at + GATHER_S
        if self.state.room.count or due <= loop.time():
            self._judged_at = loop.time()
            self.arrivals.wake()
        elif self._judged_at <= loop.time():  # later than now: its timer is set already
            loop.call_at(due, self.arrivals.wake)
            self._judged_at = due

    def on_leases(self, entries: list[Entry]) -> None:
        changed = False
        for entry in entries:
            worker = entry.subject.rsplit(".", 1)[1]
            if entry.data:
                if self._is_newer(worker, entry):
                    self.suspects.pop(worker, None)
                changed = self.fleet.present(worker_info(entry.data)) or changed
            elif self.fleet.gone(worker):
                log.warning("worker gone", worker=worker)
                self.suspects.pop(worker, None)
                self.call_wanted.set()
                changed = True
        if changed:
            self._fleet_changed()

    def _is_newer(self, worker: str, entry: Entry) -> bool:
        known = self.fleet.workers.get(worker)
        return known is not None and worker_info(entry.data).started_at != known.started_at

    def on_claim(self, message: Message) -> None:
        self.claimed(claim(message.data))

    def claimed(self, said: Claim) -> None:
        self.fleet.claimed(said)

    def on_disconnect(self, message: Message) -> None:
        """The server saw a connection end: of one of our workers? Then ask who still holds what."""
        name = str(json.loads(message.data).get("client", {}).get("name", ""))
        prefix = names.connection_name("worker", self.region, "")
        if name.startswith(prefix):
            self.suspects.setdefault(name.removeprefix(prefix), time.monotonic())
            self.call_wanted.set()

    def _learn(self, message: Outcomes, now: float) -> None:
        """Durations by type, completions and delays by lane. One pass, sums only."""
        tasks = self.state.tasks
        by_type: dict[str, tuple[int, float]] = {}
        by_bundle: dict[int, float] = {}
        for ran in message.ran:
            task = tasks.get(ran.ref)
            if task is None:
                continue
            took = ran.ended - ran.started
            count, total = by_type.get(task.type, (0, 0.0))
            by_type[task.type] = (count + 1, total + took)
            by_bundle[task.bundle] = by_bundle.get(task.bundle, 0.0) + took
        for task_type, (count, total) in by_type.items():
            self.means.learn(task_type, count, total)
        for sequence, total in by_bundle.items():
            released = self.state.released.get(sequence)
            if released is not None and released.at:
                self._window(released.lane).delayed(now, now - released.at - total)
        self._completed(by_bundle, message, now)

    def _completed(self, bundles: dict[int, float], message: Outcomes, now: float) -> None:
        lanes = {released.lane for b in bundles if (released := self.state.released.get(b)) is not None}
        for lane in lanes:
            self._window(lane).completed(now, len(message.ran) // len(lanes) or 1)

    def _window(self, lane: str) -> Window:
        window = self.windows.get(lane)
        if window is None:
            window = self.windows[lane] = Window()
        return window

    # ------------------------------------------------------------------ the fleet
    def _fleet_changed(self) -> None:
        self.lanes = self.fleet.lanes()
        self.slots = self.fleet.slots()
        for lane in sorted(set(self.slots) - self._lanes_made):
            asyncio.get_running_loop().create_task(self._make_lane(lane))
        self._report_now.set()
        self.arrivals.wake()

    async def _make_lane(self, key: str) -> None:
        pool, lane = key.split("=")
        try:
            await topology.ensure_lane(self.bus, self.region, pool, lane)
            self._lanes_made.add(key)
        except BrokerError as error:
            log.warning("lane not made yet", lane=key, error=str(error))
            asyncio.get_running_loop().call_later(1.0, self._fleet_changed)
        self.arrivals.wake()

    def stranded(self, now: float) -> list[int]:
        """Waiting tasks of kinds that no worker here has offered for a while."""
        found: list[int] = []
        for kind in self.lanes:
            self._offered_at[kind] = now
        for level, kind in self.state.room.kinds():
            if kind not in self.lanes and now - self._offered_at.setdefault(kind, now) > STRANDED_S:
                found.extend(self.state.room.peek(level, kind, 500))
        return found

    # ------------------------------------------------------------------ out
    async def and_then(self, now: float) -> None:
        """After the verdicts of a turn: delete what nobody will ack, release what may go."""
        state = self.state
        for seq, event in self._judged:
            if self.fold.judged >= seq:
                event.set()
        self._judged = [(seq, event) for seq, event in self._judged if not event.is_set()]
        if leftovers := state.take_leftovers():
            self.fleet.forget(leftovers)
            self.outbox.hold(self.own.last, [lambda _: self._delete(leftovers)])
        if self.fold.judged < self.open_at:
            return
        state.become_due(now, self.own.durable)
        rooms = {
            lane: self._window(lane).size(now, slots) - state.outstanding.get(lane, 0)
            for lane, slots in self.slots.items()
            if lane in self._lanes_made
        }
        for proposal in propose(state, rooms, self.lanes, self.means, self.payloads.find):
            pool, lane = proposal.lane.split("=")
            subject = names.work_subject(self.region, pool, lane)
            sequence = self.work.append(subject, pack(proposal.bundle))
            state.release(sequence, proposal.lane, proposal.refs, now)
        await self.work.flush()

    def _delete(self, sequences: list[int]) -> None:
        asyncio.get_running_loop().create_task(
            topology.delete_messages(self.bus, names.work(self.region), sequences)
        )

    async def judged(self, upto: int) -> None:
        """Wait until outcomes were judged up to here."""
        if self.fold.judged >= upto:
            return
        event = asyncio.Event()
        self._judged.append((upto, event))
        await event.wait()

    def order_stops(self) -> None:
        """Tell the workers to stop what is wanted cancelled and may be in their hands."""
        runs = [(task.ref, task.run) for task in self.state.cancelling.values() if task.bundle]
        if runs:
            asyncio.get_running_loop().create_task(
                self.bus.publish(names.orders(self.region), encode(Stop(runs)))
            )

    async def cancel_undelivered(self) -> None:
        """Of what is wanted cancelled, end what no worker has been given."""
        wanted = [task for task in self.state.cancelling.values() if task.bundle]
        lanes = {self.state.released[task.bundle].lane for task in wanted}
        delivered: dict[str, int] = {}
        for key in sorted(lanes):
            pool, lane = key.split("=")
            delivered[key] = await topology.lane_delivered(self.bus, self.region, pool, lane)
        for task in wanted:
            message = self.state.released.get(task.bundle)
            if message is not None and task.bundle > delivered[message.lane]:
                self.arrivals.inputs.undelivered.append((task.ref, task.run))
        self.arrivals.wake()

    def room(self) -> Room:
        state = self.state
        slots = sum(self.slots.values())
        rate = sum(window.rate(time.time()) for window in self.windows.values())
        return Room(
            region=self.region,
            epoch=state.epoch,
            credit=credit(slots, rate),
            types={offer(kind.type, kind.pool): lane.split("=")[1] for kind, lane in self.lanes.items()},
            workers=len(self.fleet.workers),
            slots=slots,
            waiting=state.room.count,
            outstanding=sum(state.outstanding.values()),
            rate=rate,
            retrying=state.retrying,
            ledger=state.ledger,
            log=self.own.durable,
        )

    async def report(self) -> None:
        """Tell the master and whoever watches what there is room for; repeat orders that may be lost."""
        last_stop = 0.0
        while True:
            try:
                await self.bus.publish(names.room(self.region), encode(self.room()))
                if self.state.cancelling and time.monotonic() - last_stop > STOP_AGAIN_S:
                    last_stop = time.monotonic()
                    self.order_stops()
                    await self.cancel_undelivered()
                self.arrivals.inputs.stranded.extend(self.stranded(time.time()))
            except BrokerError as error:
                log.warning("report not sent", error=str(error))
            await set_within(self._report_now, REPORT_S)
            self._report_now.clear()
