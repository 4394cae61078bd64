"""Orders to stop runs. They may overtake the bundles that they speak of, so they are remembered a while."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

REMEMBERED_S: Final = 60.0


class Orders:
    """(ref, run) → when the order came first; an order that is repeated is remembered on from then."""

    def __init__(self) -> None:
        self.stops: dict[tuple[int, int], float] = {}
        self._until: dict[tuple[int, int], float] = {}

    def add(self, runs: Iterable[tuple[int, int]], now: float) -> list[tuple[int, int]]:
        """Take note; the answer is those that are new."""
        new = []
        for run in runs:
            if run not in self.stops:
                self.stops[run] = now
                new.append(run)
            self._until[run] = now + REMEMBERED_S
        return new

    def expire(self, now: float) -> None:
        for run in [run for run, until in self._until.items() if until <= now]:
            del self._until[run], self.stops[run]

    def __bool__(self) -> bool:
        return bool(self.stops)
