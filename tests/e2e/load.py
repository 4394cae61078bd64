"""Clients under whom things die: each writes down what it asks and what it is told, as it happens.

A history is JSON lines. `invoke` stands before the request leaves, so that whatever becomes of it was asked
for; then comes `ok` with the id, or `info`: no answer, it may have happened or not.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from echelon import Client, remote
from echelon.errors import EchelonError
from echelon.handle import Handle

Mix = Sequence[tuple[str, int]]
MIX: Mix = (("quick", 45), ("lasting", 30), ("blocking", 15), ("flaky", 5), ("after", 5))
NAMED = 3  # every third task has an id of its client's choice
READ = 20  # every twentieth result is waited for at once, and every dependency's


class History:
    def __init__(self, path: Path) -> None:
        self._file = open(path, "a", buffering=1)

    def write(self, **what: Any) -> None:
        self._file.write(json.dumps(what, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


class Customer:
    """One client with a history. Numbers of tasks are its own: no other uses them."""

    def __init__(self, name: str, client: Client, history: History, seed: int) -> None:
        self.name = name
        self.admitted = 0
        self._client = client
        self._history = history
        self._chance = random.Random(f"{seed}/{name}")
        self._reading: set[asyncio.Task[None]] = set()

    async def wave(self, numbers: Sequence[int], mix: Mix = MIX) -> None:
        """Submit these tasks, the dependants when the others are in."""
        names, weights = zip(*mix, strict=True)
        kinds = dict(zip(numbers, self._chance.choices(names, weights, k=len(numbers)), strict=True))
        plain = [number for number, kind in kinds.items() if kind != "after"]
        handles = await self._submit(plain, kinds, {})
        needs: dict[int, list[int]] = {}
        for number, kind in kinds.items():
            if kind == "after" and len(handles) >= 2:
                needs[number] = self._chance.sample(sorted(handles), 2)
        await self._submit(list(needs), kinds, needs, handles)

    async def _submit(
        self,
        numbers: Sequence[int],
        kinds: Mapping[int, str],
        needs: Mapping[int, Sequence[int]],
        known: Mapping[int, Handle[Any]] | None = None,
    ) -> dict[int, Handle[Any]]:
        submissions = []
        for number in numbers:
            after = needs.get(number, ())
            self._history.write(kind="invoke", client=self.name, task=number, after=list(after))
            choices: dict[str, Any] = {"retries": 20}
            if number % NAMED == 0:
                choices["id"] = f"{self.name}-{number}"
            if known:
                choices["dependencies"] = [known[each] for each in after]
            submissions.append(remote(kinds[number], **choices).bind(n=number))
        handles: dict[int, Handle[Any]] = {}
        left = iter(numbers)
        try:
            async for handle in self._client.submit_many(submissions):
                number = next(left)
                handles[number] = handle
                self._history.write(kind="ok", client=self.name, task=number, id=handle.id)
                if number % READ == 0 or kinds[number] == "after":
                    self._read_soon(handle)
        except EchelonError as error:
            for number in left:
                self._history.write(kind="info", client=self.name, task=number, error=str(error)[:200])
        self.admitted += len(handles)
        return handles

    def _read_soon(self, handle: Handle[Any]) -> None:
        reading = asyncio.create_task(self._read(handle))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _read(self, handle: Handle[Any]) -> None:
        """A result that was read once may never change."""
        try:
            result = await handle.result()
        except EchelonError as error:
            self._history.write(kind="unread", id=handle.id, error=str(error)[:200])
        else:
            self._history.write(kind="read", id=handle.id, result=result)

    async def all_read(self, timeout_s: float) -> int:
        """Wait for the results that are still awaited; how many never came."""
        if self._reading:
            await asyncio.wait(self._reading, timeout=timeout_s)
        waiting = len(self._reading)
        for reading in self._reading:
            reading.cancel()
        return waiting
