"""Bugs that can be planted: name -> (module to spoil, what to do to it). See sitecustomize.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final


def ack_before_puback(module: ModuleType) -> None:
    """The work message is acked at once, the outcome is published and nobody asks whether it was stored."""
    from echelon.wire.child import join

    async def publish(self: Any, batch: Any) -> None:
        settled = []
        for held in batch.helds:
            held.beside -= 1
            if held.settled:
                settled.append(held)
        self._on_settled(settled)
        await asyncio.sleep(0.01)  # the crash has its chance here
        await self._bus.publish(self._subject, join(self._worker, batch.ran, batch.starts))
        self._under_way -= 1
        self._pump()
        if self._open.ran:
            self._soon()
        elif not self._under_way:
            self._idle.set()

    assert module.Outcomes._publish
    module.Outcomes._publish = publish


def runs_not_checked(module: ModuleType) -> None:
    """A region believes whatever speaks of a task that it has, whichever run it speaks of."""

    def current(self: Any, ref: int, run: int) -> Any:
        task = self.state.tasks.get(ref)
        return None if task is None or ref in self.judged else task

    assert module._Bench._current
    module._Bench._current = current


def one_marker(module: ModuleType) -> None:
    """A new leader announces itself instead of building a wall."""
    from echelon_core.names import WRITER_HEADER

    async def batch(self: Any, subject: str, marker: bytes) -> Any:
        headers = {WRITER_HEADER: self._writer}
        data = await self._bus.request(subject, marker, timeout_s=5.0, headers=headers)
        ack = module.read_ack(data)
        ack.count = self._width + 1
        return ack

    assert module.Log._batch
    module.Log._batch = batch


PLANTS: Final[dict[str, tuple[str, Callable[[ModuleType], None]]]] = {
    "ack-before-puback": ("echelon_worker.outcomes", ack_before_puback),
    "runs-not-checked": ("echelon_regional.decide", runs_not_checked),
    "one-marker": ("echelon_infra.jetstream.log", one_marker),
}
