"""Work messages in: what is new goes to the children, a copy does no harm, what is doubtful is asked about.

JetStream delivers at least once, and after the kill of a server it delivers again what it had delivered, as
if for the first time. So what comes is looked up in the memory of what this worker had (`copies`); and what
was stored before this connection, or delivered more than once, is a matter for the region (`doubts`).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from echelon_core import names
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.jetstream.puller import Delivery, Puller
from echelon_worker.copies import Copies, doubtful
from echelon_worker.held import Held

SLEPT_S: Final = 2.0


class Intake:
    """All messages in this worker's hands, by sequence, from receipt to ack.

    `took` is called with each message; then `fresh` if it may run, or `doubt` if it must be asked about;
    `gone` with the lane of one that came and is not to be run. They are set by those who do that, before
    `start`. `runs` counts by lane what is here and has not ended.
    """

    def __init__(self, bus: Bus, region: str, pool: str) -> None:
        self._bus = bus
        self._region = region
        self._pool = pool
        self._copies = Copies()
        self._pullers: dict[str, Puller] = {}
        self.fresh: Callable[[Held], None]
        self.doubt: Callable[[Held], None]
        self.took: Callable[[Held], None]
        self.gone: Callable[[str], None]
        self.held: dict[int, Held] = {}
        self.runs: dict[str, int] = defaultdict(int)
        self.awake_at = time.monotonic()  # kept up to date by whoever looks at the clock, ten times a second

    async def start(self, lanes: Iterable[str]) -> None:
        for lane in lanes:
            puller = self._pullers.get(lane)
            if puller is None:
                puller = self._pullers[lane] = Puller(
                    self._bus,
                    names.work(self._region),
                    names.work_consumer(self._pool, lane),
                    lambda delivery, lane=lane: self._receive(lane, delivery),  # type: ignore[misc]
                )
            await puller.start()

    async def stop(self) -> None:
        """From here on nothing arrives."""
        for puller in self._pullers.values():
            await puller.stop()

    def want(self, lane: str, messages: int) -> None:
        """At most so many may be open. While half of them are, no new request is worth its message."""
        puller = self._pullers.get(lane)
        if puller is not None:
            puller.want(puller.open if puller.open <= messages < 2 * puller.open else messages)

    def asks(self, lane: str) -> bool:
        """Is anything asked for that has not come?"""
        puller = self._pullers.get(lane)
        return puller is not None and puller.open > 0

    async def others_idle(self, lane: str) -> bool:
        """Does another worker of the pool wait for work? Means something while we ask for none; a request."""
        consumer = f"{names.work(self._region)}.{names.work_consumer(self._pool, lane)}"
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{consumer}")
        except BrokerError:
            return False  # the server restarts: nobody waits for anything
        return int(info.get("num_waiting", 0)) > 0

    def _receive(self, lane: str, delivery: Delivery) -> None:
        known = self.held.get(delivery.seq)
        if not self._copies.add(delivery.seq, delivery.data):
            if known is not None:
                known.reply = delivery.reply  # the newest delivery is the one that the consumer waits for
            else:
                self._bus.send(delivery.reply, b"+ACK")
            self.gone(lane)
            return
        if known is not None:
            known.reply = ""  # the stream lost its end and uses the number again, for this message
        now = time.monotonic()
        held = Held(delivery.seq, lane, delivery.data, delivery.reply, now)
        self.held[delivery.seq] = held
        self.runs[lane] += held.runs
        self.took(held)
        if self.slept(now) or doubtful(delivery.stored_at, delivery.delivered_count, self._bus.connected_at):
            self.doubt(held)
        else:
            self.fresh(held)

    def slept(self, now: float) -> bool:
        """Was this process stopped until a moment ago? Then our work may be another's by now."""
        return now - self.awake_at > SLEPT_S

    def over(self, helds: Sequence[Held]) -> None:
        """Everything about these is durable, or has been for long: ack."""
        for held in helds:
            self.fewer(held, held.runs)
            if self.held.get(held.sequence) is held:
                del self.held[held.sequence]
            if held.reply:
                self._bus.send(held.reply, b"+ACK")

    def fewer(self, held: Held, runs: int) -> None:
        """So many of its runs have ended, or are not to be run here."""
        held.runs -= runs
        self.runs[held.lane] -= runs

    def drop(self, held: Held) -> None:
        """It is not ours to run, or nobody can say. It comes again after its ack deadline."""
        self.fewer(held, held.runs)
        if self.held.get(held.sequence) is held:
            del self.held[held.sequence]
            self._copies.forget(held.sequence)

    def working(self, held: Held) -> None:
        """Tell the broker that we are at it: its ack deadline begins anew."""
        if held.reply:
            self._bus.send(held.reply, b"+WPI")
