"""How much of a lane may be in the work queue and in workers' hands at once.

    outstanding ≤ slots + r × max(50 ms, 2t)

r is the highest completion rate of the last 2 s, t the shortest time from release to outcome less the run
itself: the bandwidth–delay product, as in TCP BBR (Cardwell et al., ACM Queue 2016). Short enough that an
urgent task overtakes and a cancel acts at once, long enough that no worker waits for the wire. A constant
50 ms was rejected: at a round trip of 100 ms it collapses to a fifteenth of the throughput.
"""

from __future__ import annotations

from collections import deque

BUCKET_S = 0.1
HORIZON_S = 2.0
LEAST_S = 0.05
MIN_CREDIT = 1000


class Window:
    """Figures of one lane. Times are seconds, from any clock that only grows."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[float, int]] = deque()  # (start, completions), closed ones
        self._start = 0.0
        self._count = 0
        self._delays: deque[tuple[float, float]] = deque()  # ascending delays, as a sliding minimum

    def completed(self, now: float, runs: int) -> None:
        self._roll(now)
        self._count += runs

    def delayed(self, now: float, delay_s: float) -> None:
        """One message took this long between release and outcome, beside running."""
        while self._delays and self._delays[-1][1] >= delay_s:
            self._delays.pop()
        self._delays.append((now, max(0.0, delay_s)))

    def _roll(self, now: float) -> None:
        if now - self._start >= BUCKET_S:
            if self._count:
                self._buckets.append((self._start, self._count))
            self._start, self._count = now, 0
        while self._buckets and self._buckets[0][0] < now - HORIZON_S:
            self._buckets.popleft()
        while self._delays and self._delays[0][0] < now - HORIZON_S:
            self._delays.popleft()

    def rate(self, now: float) -> float:
        """Completions a second: the best tenth of a second of the last two seconds."""
        self._roll(now)
        best = max((count for _, count in self._buckets), default=0)
        return max(best, self._count) / BUCKET_S

    def size(self, now: float, slots: int) -> int:
        """How many runs may be outstanding."""
        if not slots:
            return 0
        rate = self.rate(now)
        shortest = self._delays[0][1] if self._delays else 0.0
        return slots + int(rate * max(LEAST_S, 2 * shortest))


def credit(slots: int, rate: float) -> int:
    """How many delegated tasks a region asks for: 0.3 s of work, and enough to begin with."""
    return max(MIN_CREDIT, 4 * slots, int(rate * 0.3)) if slots else 0
