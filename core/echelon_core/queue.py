"""The waiting room: priority levels, and inside a level first come first served.

Tasks of one *class* (what decides where they may go: type, region, pool) wait together, so a class that
cannot go anywhere is passed over as a whole and holds nobody else up. Order is by ref, that is by admission:
a task that comes back (a retry, a return) finds its old place.

Looking does not change anything that counts: `peek` skips what has left, `left` forgets it: at once at the
head, in the middle when those that have left are more than those that wait. Per class and level there is a
deque for what arrives in order and a heap for what comes back out of order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby, islice
from typing import Generic, TypeVar

LEVELS = range(10, 0, -1)
COMPACT_FROM = 64  # gone references in a line before it is worth sweeping
EAGER = 4  # so many lines are looked at each to the limit, more are merged as needed

ClassT = TypeVar("ClassT", bound=Hashable)


class _Line(Generic[ClassT]):
    """Those of one class at one level."""

    __slots__ = ("back", "gone", "kind", "line")

    def __init__(self, kind: ClassT) -> None:
        self.kind = kind
        self.line: deque[int] = deque()  # ascending refs
        self.back: list[int] = []  # heap of those that came back
        self.gone = 0  # about how many in here have left

    def push(self, ref: int) -> None:
        if not self.line or ref > self.line[-1]:
            self.line.append(ref)
        else:
            heapq.heappush(self.back, ref)

    def extend(self, refs: Sequence[int]) -> None:
        if not self.line or refs[0] > self.line[-1]:
            self.line.extend(refs)
        else:
            for ref in refs:
                self.push(ref)

    def __iter__(self) -> Iterator[int]:
        if not self.back:
            return iter(self.line)
        return (ref for ref, _ in groupby(heapq.merge(sorted(self.back), self.line)))  # each once

    def trim(self, waits: Callable[[int, int, ClassT], bool], level: int, number: int) -> None:
        line, back, kind = self.line, self.back, self.kind
        before = len(line) + len(back)
        while line and not waits(level, line[0], kind):
            line.popleft()
        while back and not waits(level, back[0], kind):
            heapq.heappop(back)
        size = len(line) + len(back)
        self.gone = max(0, self.gone + number - (before - size))
        if self.gone > COMPACT_FROM and 2 * self.gone > size:
            self.line = deque(ref for ref in self if waits(level, ref, kind))
            self.back = []
            self.gone = 0


class WaitingRoom(Generic[ClassT]):
    """`waits(level, ref, class)` is the truth; what is in here is a list of candidates, some of them gone.

    A task that changes level or class is pushed again; the old reference is skipped when it comes up.
    """

    def __init__(self, waits: Callable[[int, int, ClassT], bool]) -> None:
        self._waits = waits
        self._levels: dict[int, dict[ClassT, _Line[ClassT]]] = {level: {} for level in LEVELS}
        self.count = 0

    def push(self, level: int, kind: ClassT, ref: int) -> None:
        lines = self._levels[level]
        line = lines.get(kind)
        if line is None:
            line = lines[kind] = _Line(kind)
        line.push(ref)
        self.count += 1

    def extend(self, level: int, kind: ClassT, refs: Sequence[int]) -> None:
        """Push several of one class, in ascending order."""
        lines = self._levels[level]
        line = lines.get(kind)
        if line is None:
            line = lines[kind] = _Line(kind)
        line.extend(refs)
        self.count += len(refs)

    def left(self, level: int, kind: ClassT, number: int = 1) -> None:
        """So many of this class have left the room: forget those that stand at the head."""
        self.count -= number
        line = self._levels[level].get(kind)
        if line is None:
            return
        line.trim(self._waits, level, number)
        if not line.line and not line.back:
            del self._levels[level][kind]

    def kinds(self) -> Iterator[tuple[int, ClassT]]:
        """Levels and classes that have someone waiting, highest level first."""
        for level, lines in self._levels.items():
            for kind in lines:
                yield level, kind

    def waits_at(self, level: int) -> bool:
        """May somebody wait at this level? Cheap; no for sure when it says no."""
        return bool(self._levels[level])

    def peek(self, level: int, kind: ClassT, limit: int) -> list[int]:
        """The first `limit` that wait at this level in this class, in order."""
        line = self._levels[level].get(kind)
        if line is None:
            return []
        return list(islice(self._waiting(level, line), limit))

    def first(self, level: int, wanted: Callable[[ClassT], bool], limit: int) -> list[int]:
        """The first `limit` at this level over all wanted classes, in order: refs only."""
        lines = [self._waiting(level, line) for kind, line in self._levels[level].items() if wanted(kind)]
        if len(lines) > EAGER:
            return list(islice(heapq.merge(*lines), limit))
        found: list[int] = []
        for line in lines:
            found += islice(line, limit)
        found.sort()  # of few runs: faster than a heap
        return found[:limit]

    def _waiting(self, level: int, line: _Line[ClassT]) -> Iterator[int]:
        waits, kind = self._waits, line.kind
        return (ref for ref in line if waits(level, ref, kind))

    def peek_level(
        self, level: int, wanted: Callable[[ClassT], bool], limit: int
    ) -> list[tuple[int, ClassT]]:
        """The first `limit` at this level over all wanted classes, in order of ref."""
        kinds = [kind for kind in self._levels[level] if wanted(kind)]
        if len(kinds) == 1:
            return [(ref, kinds[0]) for ref in self.peek(level, kinds[0], limit)]
        heads = [[(ref, index) for ref in self.peek(level, kind, limit)] for index, kind in enumerate(kinds)]
        return [(ref, kinds[index]) for ref, index in islice(heapq.merge(*heads), limit)]
