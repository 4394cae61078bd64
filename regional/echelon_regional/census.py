"""Roll calls and questions, on the wire. What an answer means is decided in takeback.py.

A roll call: read what was delivered, ask every worker with a lease, read outcomes to their end as of the
last answer, and judge lost what is open and in no answer. A lost lease or an answer is a verdict; a
disconnect alone is not, but a worker that was disconnected and does not answer for half a second has its
lease revoked: it must take a new one before it counts again.
"""

from __future__ import annotations

import asyncio
import time

from echelon_core import names
from echelon_core.entries import Question, Verdict, claim, encode, question
from echelon_core.entries import RollCall as Call
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Message
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.lease import read_lease, revoke
from echelon_infra.jetstream.tasks import set_within
from echelon_infra.leader.lead import Deposed
from echelon_infra.telemetry import logs
from echelon_regional.doors import Floor
from echelon_regional.takeback import RollCall, words

log = logs.get("regional")

ASK_AGAIN_S = 0.2
SUSPECT_S = 0.5
CLAIMS_S = 1.5


class Census:
    """Asks who holds what, and answers who may run what."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self._calls = 0
        self._call: RollCall | None = None
        self._answered = asyncio.Event()
        self._questions: list[tuple[Question, str]] = []
        self._asked = asyncio.Event()
        self._reconnected_at = 0.0

    # ------------------------------------------------------------------ in
    def on_claim(self, message: Message) -> None:
        said = claim(message.data)
        self.floor.claimed(said)
        if self._call is not None:
            self._call.answer(said)
        if said.call:
            self.floor.suspects.pop(said.worker, None)
            self._answered.set()

    def on_question(self, message: Message) -> None:
        self._questions.append((question(message.data), message.reply))
        self._asked.set()

    def on_reconnect(self) -> None:
        """The server restarted: deliveries may have been forgotten, a call under way is void."""
        self._reconnected_at = time.monotonic()
        self.floor.fleet.reconnected()
        self._call = None
        self.floor.call_wanted.set()

    # ------------------------------------------------------------------ roll calls
    async def run(self) -> None:
        floor = self.floor
        while True:
            await floor.call_wanted.wait()
            floor.call_wanted.clear()
            try:
                if not await self._take():
                    floor.call_wanted.set()
            except BrokerError as error:
                log.warning("roll call broken off", error=str(error))
                floor.call_wanted.set()
                await asyncio.sleep(ASK_AGAIN_S)

    async def _take(self) -> bool:
        """One roll call. False: it was voided, take another."""
        floor = self.floor
        released_upto = floor.work.durable
        delivered: dict[str, int] = {}
        for key in sorted({message.lane for message in floor.state.released.values()}):
            pool, lane = key.split("=")
            delivered[key] = await topology.lane_delivered(floor.bus, floor.region, pool, lane)
        self._calls += 1
        call = self._call = RollCall(floor.state.epoch * 1000 + self._calls, delivered, released_upto)
        asked = encode(Call(call.number, floor.state.epoch))
        while True:
            everybody = await self._everybody_known()
            missing = call.missing(floor.fleet.workers)
            if self._call is not call:
                return False
            if everybody and not missing:
                break
            self._answered.clear()
            await floor.bus.publish(names.roll_call(floor.region), asked)
            if not await set_within(self._answered, ASK_AGAIN_S):
                await self._revoke_suspects(missing)
        upto = await topology.last_sequence(floor.bus, names.outcomes(floor.region))
        await floor.judged(upto)
        if self._call is not call:
            return False
        self._call = None
        lost = call.lost(floor.state)
        if lost:
            log.warning("runs lost", runs=len(lost), call=call.number)
            floor.arrivals.inputs.lost.extend(lost)
            floor.arrivals.wake()
        return True

    async def _everybody_known(self) -> bool:
        """Have all leases been read that exist by now? A worker that pulls has one, so it will be asked."""
        subject = names.lease_subject(names.worker_leases(self.floor.region))
        newest = await topology.last_of_subject(self.floor.bus, names.LEASES_STREAM, subject)
        return newest is None or await self.floor.leases.passed(int(newest["seq"]), ASK_AGAIN_S)

    async def _revoke_suspects(self, missing: list[str]) -> None:
        floor = self.floor
        now = time.monotonic()
        for worker in missing:
            since = floor.suspects.get(worker)
            if since is None or now - since < SUSPECT_S:
                continue
            key = names.worker_lease(floor.region, worker)
            held = await read_lease(floor.bus, key)
            if held is not None and await revoke(floor.bus, key, held[1]):
                log.warning("lease revoked", worker=worker, silent_s=round(now - since, 2))
            floor.suspects.pop(worker, None)

    # ------------------------------------------------------------------ questions
    async def answer(self) -> None:
        """Answer what workers ask about doubtful messages; questions of one moment share the look-up."""
        floor = self.floor
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._all_claimed()
            asked, self._questions = self._questions, []
            if not asked:
                continue
            try:
                upto = await topology.last_sequence(floor.bus, names.outcomes(floor.region))
                await floor.judged(upto)
                await floor.own.settle()
                end = await topology.last_sequence(floor.bus, names.region_log(floor.region))
            except BrokerError as error:
                log.warning("questions not answered", count=len(asked), error=str(error))
                continue
            if end > floor.own.last:
                raise Deposed("the region's log has entries that are not ours")
            for said, reply in asked:
                await floor.bus.publish(reply, encode(self._verdict(said)))

    async def _all_claimed(self) -> None:
        """After a server restart nobody knows who holds what until the workers have said."""
        while not self.floor.fleet.all_claimed:
            if time.monotonic() - self._reconnected_at > CLAIMS_S:
                return
            await asyncio.sleep(0.02)

    def _verdict(self, said: Question) -> Verdict:
        floor = self.floor
        closing = floor.closing()
        answer = Verdict([], [])
        for sequence, runs in said.messages:
            word, still = words(floor.state, floor.fleet, closing, said.worker, sequence, runs)
            if word == "yours":
                floor.fleet.holders[sequence] = said.worker
                if self._call is not None:
                    self._call.granted(sequence)
            answer.words.append(word)
            answer.runs.append(still)
        return answer
