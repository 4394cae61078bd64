"""How a fold becomes durable: written, then true, and told only when durable. One loop for both schedulers.

log.append     takes the next place in the chain
fold.apply     true for this leader at once
outbox.hold    for the world when that entry is durable, and every entry before it
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from echelon_core.entries import encode
from echelon_core.fold import Effect, Fold

InputsT = TypeVar("InputsT")
EntryT = TypeVar("EntryT")


class Deposed(Exception):
    """Another leader writes this log. Memory is dropped, the log is the truth: the process exits."""


class Log(Protocol):
    last: int  # the last sequence appended, durable or not
    durable: int
    on_durable: Callable[[int], None]

    def append(self, subject: str, data: bytes) -> int: ...
    async def flush(self) -> None: ...


class Outbox:
    """Effects wait here until their entry is durable, then run in order. Effects must not raise or block."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, Sequence[Effect]]] = deque()
        self._durable = 0

    def hold(self, seq: int, effects: Sequence[Effect]) -> None:
        if not effects:
            return
        if seq <= self._durable and not self._held:
            for effect in effects:
                effect(seq)
        else:
            self._held.append((seq, effects))

    def release(self, durable: int) -> None:
        self._durable = max(self._durable, durable)
        while self._held and self._held[0][0] <= self._durable:
            seq, effects = self._held.popleft()
            for effect in effects:
                effect(seq)


class Arrivals(Generic[InputsT]):
    """All that came while the loop was busy, as one wake-up; at the latest after `tick_s`.

    The tier fills `inputs` in place and calls `wake`; the loop takes it and leaves a fresh one.
    """

    def __init__(self, fresh: Callable[[], InputsT], tick_s: float) -> None:
        self._fresh = fresh
        self._tick_s = tick_s
        self._event = asyncio.Event()
        self.inputs = fresh()

    def wake(self) -> None:
        self._event.set()

    async def __aiter__(self) -> AsyncIterator[InputsT]:
        while True:
            if not self._event.is_set():
                timer = asyncio.get_running_loop().call_later(self._tick_s, self._event.set)
                await self._event.wait()
                timer.cancel()
            self._event.clear()
            taken, self.inputs = self.inputs, self._fresh()
            yield taken


async def lead(
    fold: Fold[InputsT, EntryT],
    log: Log,
    arrivals: Arrivals[InputsT],
    outbox: Outbox,
    now: Callable[[], float],
    and_then: Callable[[float], Awaitable[None]] | None = None,
) -> None:
    """Lead until another does. Ends only by `Deposed`, raised where an append is refused.

    `and_then` follows each turn (a region releases there): what it does is no entry of this log.
    """
    async for inputs in arrivals:
        moment = now()
        for subject, entry, effects in fold.decide(inputs, moment):
            if entry is None:
                outbox.hold(log.last, effects)
                continue
            seq = log.append(subject, encode(entry))
            fold.apply(seq, entry)
            outbox.hold(seq, effects)
        await log.flush()
        if and_then is not None:
            await and_then(moment)
