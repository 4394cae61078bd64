"""Doubtful messages: the region is asked, all that came together in one request, before anything runs.

Only the region knows what was released, told and closed. No answer in half a second, of a connection that was
there all the time, means that no leader is there; then we run rather than wait, and a task may be executed
twice, which the protocol allows for that case.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from echelon.wire.child import Bundle, bundle, encode_bundle
from echelon_core import names
from echelon_core.entries import Question, Verdict, encode, verdict
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import NoResponders, Timeout
from echelon_infra.telemetry import logs
from echelon_worker.chores import Chores
from echelon_worker.held import Held, RunKey
from echelon_worker.pull import Intake

log = logs.get("worker")

GATHER_S: Final = 0.002
PATIENCE_S: Final = 0.5
ASK_AGAIN_S: Final = 0.05
TOGETHER: Final = 256


class Doubts:
    """Messages with an open question, by sequence."""

    def __init__(
        self,
        bus: Bus,
        region: str,
        worker: str,
        intake: Intake,
        chores: Chores,
        run: Callable[[Held], None],
    ) -> None:
        self._bus = bus
        self._subject = names.questions(region)
        self._worker = worker
        self._intake = intake
        self._chores = chores
        self._run = run
        self._next: list[Held] = []
        self.open: dict[int, Held] = {}
        intake.doubt = self.add

    def add(self, held: Held) -> None:
        self.open[held.sequence] = held
        self._next.append(held)
        if len(self._next) == 1:
            asyncio.get_running_loop().call_later(GATHER_S, self._ask_all)

    def _ask_all(self) -> None:
        asked, self._next = self._next, []
        for first in range(0, len(asked), TOGETHER):
            self._chores.start(self._ask(asked[first : first + TOGETHER]))

    async def _ask(self, helds: Sequence[Held]) -> None:
        said = await self._answer(helds)
        if said is None:
            log.warning("no answer to a question, running", messages=len(helds))
        for index, held in enumerate(helds):
            if self.open.get(held.sequence) is not held:
                continue  # the worker drains, or the number was used again
            del self.open[held.sequence]
            word, runs = ("yours", None) if said is None else (said.words[index], said.runs[index])
            if word == "wait":
                self._intake.drop(held)
                self._intake.gone(held.lane)
                continue
            if runs is None:
                self._intake.took(held)  # the region does not know: it is claimed like any other
            else:
                self._intake.fewer(held, narrow(held, set(runs)))
            if word == "over" or not held.runs:
                self._intake.over((held,))
                self._intake.gone(held.lane)
            else:
                self._run(held)

    async def _answer(self, helds: Sequence[Held]) -> Verdict | None:
        """The region's, or None: nobody there who could say."""
        messages = [(held.sequence, [(run.ref, run.run) for run in bundle(held.data).runs]) for held in helds]
        data = encode(Question(self._worker, messages))
        connected_at = self._bus.connected_at
        until = time.monotonic() + PATIENCE_S
        while (left_s := until - time.monotonic()) > 0:
            try:
                said = verdict(await self._bus.request(self._subject, data, timeout_s=left_s))
            except Timeout:
                if self._bus.is_connected and self._bus.connected_at == connected_at:
                    return None
                connected_at = self._bus.connected_at  # nobody could have heard: ask anew
                until = time.monotonic() + PATIENCE_S
            except NoResponders:
                await asyncio.sleep(ASK_AGAIN_S)
            except msgspec.DecodeError as error:
                log.error("unreadable answer to a question", error=str(error))
                return None
            else:
                return said if len(said.words) == len(said.runs) == len(helds) else None
        return None

    def abandon(self) -> None:
        """The worker drains: drop what is not answered, whoever it belongs to."""
        for held in self.open.values():
            self._intake.drop(held)
        self.open.clear()
        self._next.clear()


def narrow(held: Held, runs: set[RunKey]) -> int:
    """Of this bundle run these only, the others are closed; returns how many those are."""
    whole: Bundle = bundle(held.data)
    left = [run for run in whole.runs if (run.ref, run.run) in runs]
    if len(left) < len(whole.runs):
        held.data = encode_bundle(Bundle(whole.errands, left))
    return len(whole.runs) - len(left)
