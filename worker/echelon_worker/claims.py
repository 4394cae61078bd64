"""Who holds what: this worker's part. JetStream does not say, so workers do.

* 10 ms after receipt: what is still held is claimed (short bundles are over by then and never claimed);
* after a reconnect: at once, all of it, even if that is nothing, for the region waits for everyone's word;
* a roll call: the whole list, under the call's number, on the connection of the pulls, so that what was
  delivered before the call arrived before it too;
* a third into the ack deadline: +WPI, once for each message, for the case that the region is gone as well.
"""

from __future__ import annotations

import asyncio
from typing import Final

from echelon_core import names
from echelon_core.entries import Claim, encode, roll_call
from echelon_infra.jetstream.connection import Bus, Message
from echelon_worker.doubts import Doubts
from echelon_worker.held import Held
from echelon_worker.pull import Intake

CLAIM_S: Final = 0.01
ACK_WAIT_S: Final = 30.0
WORKING_S: Final = ACK_WAIT_S / 3


class Claims:
    def __init__(self, bus: Bus, region: str, worker: str, intake: Intake, doubts: Doubts) -> None:
        self._bus = bus
        self._region = region
        self._subject = names.claims(region)
        self._worker = worker
        self._intake = intake
        self._doubts = doubts
        self._new: list[Held] = []
        intake.took = self._took

    async def start(self) -> None:
        await self._bus.subscribe(names.roll_call(self._region), self._answer)
        self._bus.on_reconnect.append(self.claim_all)

    def _took(self, held: Held) -> None:
        self._new.append(held)
        if len(self._new) == 1:
            asyncio.get_running_loop().call_later(CLAIM_S, self._claim)

    def _claim(self) -> None:
        new, self._new = self._new, []
        held = self._intake.held
        still = [one.sequence for one in new if held.get(one.sequence) is one]
        still = [sequence for sequence in still if sequence not in self._doubts.open]
        if still:
            self._bus.send(self._subject, encode(Claim(self._worker, still)))

    def claim_all(self, call: int = 0) -> None:
        questioned = list(self._doubts.open)
        sure = [sequence for sequence in self._intake.held if sequence not in self._doubts.open]
        self._bus.send(self._subject, encode(Claim(self._worker, sure, call, questioned)))

    def _answer(self, message: Message) -> None:
        self.claim_all(roll_call(message.data).call)

    def keep_alive(self, now: float) -> None:
        """Tell the broker about what has been here for long. `now`: monotonic."""
        for held in self._intake.held.values():
            if now - held.working_at >= WORKING_S:
                held.working_at = now
                self._intake.working(held)
