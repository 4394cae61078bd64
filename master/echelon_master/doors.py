"""Where the master's leader meets the world: requests, region logs, reports in; answers and notices out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

import msgspec

from echelon.errors import Invalid, Malformed, Unavailable
from echelon.wire import names as api_names
from echelon.wire.api import (
    Act,
    FieldError,
    Notice,
    Refusal,
    Submission,
    Submit,
    act_request,
    submit_request,
)
from echelon.wire.codec import pack
from echelon_core import names
from echelon_core.entries import (
    Admitted,
    RegionEntry,
    Verdicts,
    ledger_entry,
    region_entry,
    room,
)
from echelon_core.runs import index_of, sequence_of
from echelon_infra.jetstream import tail
from echelon_infra.jetstream.connection import Bus, Message, Subscription
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.log import Log
from echelon_infra.jetstream.tail import Entry, Tail
from echelon_infra.leader.lead import Arrivals, Outbox
from echelon_infra.telemetry import logs
from echelon_master.admit import SubmitRequest
from echelon_master.control import ActRequest
from echelon_master.decide import Inputs
from echelon_master.ended import EndedIndex
from echelon_master.graph import Directory
from echelon_master.state import MasterState

log: Final = logs.get("master")

TICK_S: Final = 0.25
TASKS_PER_TURN: Final = 20_000
REQUESTS_WAITING: Final = 4096
"""More than that at the door, and the next is told to come back."""
FEW: Final = 20
MANY: Final = 2000
GATHER_FEW_S: Final = 0.002
GATHER_S: Final = 0.010
FINISH_S: Final = 2.0
FOLLOW_S: Final = 0.2
KEY_CHARS: Final = 256
SUBJECT_CHARS: Final = 512

RequestT = TypeVar("RequestT", Submit, Act)


class Doors:
    """Everything that comes becomes inputs of the next turn; everything decided leaves when it is durable."""

    def __init__(self, bus: Bus, own: Log, state: MasterState, ended: EndedIndex) -> None:
        self.bus = bus
        self.own = own
        self.state = state
        self.ended = ended
        self.outbox = Outbox()
        self._waiting: deque[SubmitRequest] = deque()
        self._taken = 0  # tasks in the inputs of the next turn
        self._emptied = asyncio.Event()
        self._reading_back: set[asyncio.Task[None]] = set()
        self.arrivals: Arrivals[Inputs] = Arrivals(self._fresh, TICK_S)
        self._subscriptions: list[Subscription] = []
        self._tails: dict[str, Tail | None] = {}
        self._logs: dict[str, list[tuple[int, RegionEntry]]] = {}
        self._gathered = 0
        self._gathered_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        own.on_durable = self.outbox.release

    async def open(self, regions: tuple[str, ...]) -> None:
        """Begin to listen. The state must be recovered."""
        self.outbox.release(self.own.durable)
        self._tails["leases"] = await tail.watch_last(
            self.bus, names.LEASES_STREAM, [names.lease_subject(names.region_lease("*"))], self._on_leases
        )
        for region in sorted({*regions, *self.state.regions}):
            self._follow(region)
        for subject, handler in (
            (names.ROOMS, self._on_room),
            (api_names.SUBMIT, self._on_submit),
            (api_names.CANCEL, self._on_cancel),
            (api_names.RETRY, self._on_retry),
            (api_names.PING, self._on_ping),
        ):
            self._subscriptions.append(await self.bus.subscribe(subject, handler))

    async def finish(self) -> None:
        """Take nothing more from clients, and wait until what had come is decided; 2 s at most."""
        for subscription in self._subscriptions:
            await subscription.drain()
        self._emptied.clear()
        self.arrivals.wake()
        try:
            await asyncio.wait_for(self._emptied.wait(), FINISH_S)
        except TimeoutError:
            log.warning("stopped before every request was decided", requests=len(self._waiting))

    async def close(self) -> None:
        for errand in (*self._reading_back, *self._opening):
            errand.cancel()
        for each in self._tails.values():
            if each is not None:
                await each.close()

    # ------------------------------------------------------------------ submissions
    def _fresh(self) -> Inputs:
        """The next turn's inputs, beginning with what did not fit into this one's."""
        inputs = Inputs()
        self._taken = 0
        while self._waiting and self._taken < TASKS_PER_TURN:
            request = self._waiting.popleft()
            self._taken += _size(request.submit)
            inputs.submits.append(request)
        if inputs.submits:
            self.arrivals.wake()
        elif not self._reading_back:
            self._emptied.set()  # all that has come is decided in the turn that begins now
        return inputs

    def _on_submit(self, message: Message) -> None:
        submit = self._decoded(message, submit_request)
        if submit is None:
            return
        if names.is_ours(submit.inbox) or len(submit.inbox) > SUBJECT_CHARS:
            self._refuse(message, Invalid([FieldError("inbox", "inbox", "Use a fresh inbox.")]).refusal())
            return
        if any(len(group.key) > KEY_CHARS for group in submit.groups):
            error = FieldError("key", "key", f"A request's key has at most {KEY_CHARS} characters.")
            self._refuse(message, Invalid([error]).refusal())
            return
        if len(self._waiting) >= REQUESTS_WAITING:
            self._refuse(message, Unavailable("More requests wait than the master can take.").refusal())
            return
        request = SubmitRequest(submit, len(message.data), self._replying(message.reply))
        if self._taken < TASKS_PER_TURN and not self._waiting:
            self._taken += _size(submit)
            self.arrivals.inputs.submits.append(request)
        else:
            self._waiting.append(request)
        self.arrivals.wake()

    # ------------------------------------------------------------------ cancel, retry, ping
    def _on_cancel(self, message: Message) -> None:
        act = self._decoded(message, act_request)
        if act is not None:
            self.arrivals.inputs.cancels.append(ActRequest(act, self._replying(message.reply)))
            self.arrivals.wake()

    def _on_retry(self, message: Message) -> None:
        act = self._decoded(message, act_request)
        if act is not None:
            _start(self._retry(act, message.reply), self._reading_back)

    async def _retry(self, act: Act, reply: str) -> None:
        """Read back from the ledger what was submitted, then let it be decided."""
        found: dict[int, Submission] = {}
        read: dict[int, list[Submission]] = {}
        directory = Directory(self.state, self.ended, act.ids)
        for task_id in act.ids:
            over = None if directory.live(task_id) is not None else directory.ended(task_id)
            if over is None or over.kind == "ok":
                continue
            seq = sequence_of(over.ref)
            try:
                if seq not in read:
                    read[seq] = await self._admitted(seq)
            except BrokerError as error:
                log.warning("submission not read back", ledger=seq, error=str(error))
                continue
            if index_of(over.ref) < len(read[seq]):
                found[over.ref] = read[seq][index_of(over.ref)]
        self.arrivals.inputs.retries.append(ActRequest(act, self._replying(reply), found))
        self.arrivals.wake()

    async def _admitted(self, seq: int) -> list[Submission]:
        stored = await tail.get(self.bus, names.LEDGER, seq)
        entry = None if stored is None else ledger_entry(stored.data)
        if not isinstance(entry, Admitted):
            return []
        return [task for group in entry.groups for task in group.tasks]

    def _on_ping(self, message: Message) -> None:
        said = {"role": "master", "epoch": self.state.epoch, "position": self.own.durable}
        self._send(message.reply, pack(said | {"live": self.state.live, "waiting": self.state.room.count}))

    # ------------------------------------------------------------------ regions
    def _on_room(self, message: Message) -> None:
        try:
            report = room(message.data)
        except msgspec.MsgspecError as error:
            log.warning("report unreadable", subject=message.subject, error=str(error))
            return
        self._check(report.ledger)
        self._follow(report.region)
        self.arrivals.inputs.rooms[report.region] = report
        if self.state.room.count:
            self.arrivals.wake()

    def _on_leases(self, entries: list[Entry]) -> None:
        for entry in entries:
            region = entry.subject.rpartition(".")[2]
            self.arrivals.inputs.leases[region] = bool(entry.data)

    def _follow(self, region: str) -> None:
        """Read a region's log from where the ledger says; once for each region."""
        if region not in self._logs:
            self._logs[region] = []
            _start(self._open_tail(region), self._opening)

    async def _open_tail(self, region: str) -> None:
        following = Tail(
            self.bus,
            names.region_log(region),
            after=self.state.region(region).position,
            deliver=lambda entries: self._on_log(region, entries),
        )
        while True:
            try:
                await following.open()
                break
            except BrokerError:
                await asyncio.sleep(FOLLOW_S)  # no such log yet: the region has never run
        self._tails[region] = following

    def _on_log(self, region: str, entries: list[Entry]) -> None:
        gathering = self._logs[region]
        for entry in entries:
            if entry.data:
                decoded = region_entry(entry.data)
                if isinstance(decoded, Verdicts):
                    self._check(decoded.ledger)
                    self._gathered += sum([len(refs) for _, refs in decoded.ok]) + len(decoded.ended)
                gathering.append((entry.seq, decoded))
        self._settle_soon()

    def _settle_soon(self) -> None:
        """At once when little happens; otherwise gather for some milliseconds, unless much waits."""
        loop = asyncio.get_running_loop()
        gather_s = GATHER_FEW_S if self._gathered < FEW else GATHER_S
        due = self._gathered_at + (0.0 if self._gathered >= MANY else gather_s)
        if due <= loop.time():
            self._settle_now()
        elif self._timer is None:
            self._timer = loop.call_at(due, self._settle_now)

    def _settle_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gathered = 0
        self._gathered_at = asyncio.get_running_loop().time()
        logs_in = self.arrivals.inputs.logs
        for region, gathered in self._logs.items():
            if gathered:
                logs_in.setdefault(region, []).extend(gathered)
                gathered.clear()
        self.arrivals.wake()

    def _check(self, ledger: int) -> None:
        """Who has read beyond our newest entry has read another leader's."""
        if ledger > self.own.last:
            log.warning("a region has read beyond our ledger", ledger=ledger, ours=self.own.last)
            self.own.fenced.set()

    # ------------------------------------------------------------------ out
    def notify(self, inbox: str, notice: Notice) -> None:
        self._send(inbox, pack(notice))

    def _replying(self, reply: str) -> Callable[[object], None]:
        return lambda answer: self._send(reply, pack(answer))

    def _refuse(self, message: Message, refusal: Refusal) -> None:
        self._send(message.reply, pack(refusal))

    def _send(self, subject: str, data: bytes) -> None:
        if not subject:
            return
        try:
            self.bus.send(subject, data)
        except BrokerError as error:  # they ask again: the answer stays the same
            log.warning("answer not sent", subject=subject, error=str(error))

    def _decoded(self, message: Message, decode: Callable[[bytes], RequestT]) -> RequestT | None:
        try:
            return decode(message.data)
        except msgspec.MsgspecError as error:
            field = FieldError("request", "malformed", f"{error}.")
            self._refuse(message, Malformed([field]).refusal())
            return None


def _start(errand: Coroutine[object, object, None], running: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(errand)
    running.add(task)
    task.add_done_callback(running.discard)


def _size(submit: Submit) -> int:
    return sum([len(group.tasks) for group in submit.groups])
