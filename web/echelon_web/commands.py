"""Every write of a web node goes through here: requests to the master's leader, and nothing else."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from echelon.coalesce import Coalescer, to_be_moved
from echelon.errors import EchelonError, Unavailable, error_of
from echelon.wire.api import Act, ActAnswer, Admission, Done, Refusal, Submission, act_answer, refusal_of
from echelon.wire.codec import pack
from echelon.wire.names import SUBMIT
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError

PATIENCE_S: Final = 5.0
"""How long a master that is being replaced is waited for."""
_ANSWER_S: Final = 2.0
_AGAIN_S: Final = 0.1


class Commands:
    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._bus = bus
        self._blobs = blobs
        self._coalescer = Coalescer(self._request, (BrokerError,), patience_s=PATIENCE_S)
        self.acknowledged = 0  # the ledger position up to which this node has promised something

    async def _request(self, data: bytes) -> bytes:
        return await self._bus.request(SUBMIT, data, timeout_s=_ANSWER_S)

    async def submit(self, tasks: Sequence[Submission]) -> tuple[int, Admission]:
        """Admit these, whole or not at all. Returns the ledger position and what became of each.

        Raises:
            EchelonError: as the master refuses; Unavailable: none answers.
            PayloadTooLarge: together they are more than a request may hold.
        """
        tasks = list(tasks)
        names: dict[int, str] = {}
        for index in to_be_moved(tasks):
            names[index] = name = f"p-{uuid.uuid4().hex}"
            await self._blobs.put(name, tasks[index].payload)
            size = len(tasks[index].payload)
            tasks[index] = replace(tasks[index], payload=b"", blob=name, payload_bytes=size)
        unused: list[str] = []
        try:
            position, admission = await self._coalescer.submit(tasks)
            unused = [name for index, name in names.items() if index in admission.known]
        except Unavailable:
            raise  # nobody knows whether they were admitted: the payloads stay
        except EchelonError:
            unused = list(names.values())
            raise
        finally:
            for name in unused:
                await self._blobs.delete(name)
        self.acknowledged = max(self.acknowledged, position)
        return position, admission

    async def act(self, subject: str, name: str, reason: str) -> tuple[int, Done]:
        """Cancel or retry one task. Returns the ledger position and what it is in now.

        Raises:
            EchelonError: as the master refuses; Unavailable: none answers.
        """
        answer = await self._ask(subject, pack(Act([name], "http", reason)))
        self.acknowledged = max(self.acknowledged, answer.position)
        (item,) = answer.items
        if isinstance(item, Refusal):
            raise error_of(item)
        return answer.position, item

    async def _ask(self, subject: str, data: bytes) -> ActAnswer:
        """Repeats until the patience is over: an act may be done twice."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                told = await self._bus.request(subject, data, timeout_s=_ANSWER_S)
            except BrokerError as error:
                reason = str(error)
            else:
                refusal = refusal_of(told)
                if refusal is None:
                    return act_answer(told)
                if refusal.code != Unavailable.code:
                    raise error_of(refusal)
                reason = refusal.detail
            if time.monotonic() > deadline:
                raise Unavailable(f"No master has answered for {PATIENCE_S:g} s ({reason}).")
            await asyncio.sleep(_AGAIN_S)
