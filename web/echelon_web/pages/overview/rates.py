"""Counts in ten-second buckets, asked for means and series. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from echelon_web.pages.words import clock, rate
from echelon_web.readmodel.query import Bucket
from echelon_web.readmodel.rows import BUCKET_S

POINTS: Final = 60
HOUR_S: Final = 3600


class Rates:
    """The last hour. `what`: admitted, placed, completed, failed, cancelled, or ended for the last three."""

    def __init__(self, buckets: Sequence[Bucket], now: float) -> None:
        self._buckets = buckets
        self._now = now
        self._start = now - HOUR_S

    def total(self, what: str, seconds: float, region: str | None = None) -> int:
        since = self._now - seconds
        return sum(_value(bucket, what) for bucket in self._of(region) if bucket.at + BUCKET_S > since)

    def mean(self, what: str, seconds: float, region: str | None = None) -> float:
        """A second."""
        return self.total(what, seconds, region) / seconds

    def series(self, what: str, region: str | None = None) -> list[float]:
        """A second, minute by minute."""
        sums = [0] * POINTS
        for bucket in self._of(region):
            place = int((bucket.at - self._start) / HOUR_S * POINTS)
            if 0 <= place < POINTS:
                sums[place] += _value(bucket, what)
        return [value / (HOUR_S / POINTS) for value in sums]

    def backlog(self, pending: int) -> list[float]:
        """How many waited, minute by minute: from what waits now, backwards."""
        return self._backwards(pending, self.series("admitted"), self.series("ended"))

    def depth(self, region: str, waiting: int) -> list[float]:
        return self._backwards(waiting, self.series("placed", region), self.series("ended", region))

    def _backwards(self, now: int, came: Sequence[float], went: Sequence[float]) -> list[float]:
        made = [float(now)]
        for arrived, left in zip(reversed(came), reversed(went), strict=True):
            made.append(max(0.0, made[-1] - (arrived - left) * HOUR_S / POINTS))
        return made[::-1]

    def labels(self) -> list[str]:
        return [clock(self._start + HOUR_S * part / 4, self._now)[-8:-3] for part in range(5)]

    def table(self) -> list[tuple[str, str, str]]:
        """(time, in, out) every ten minutes: the chart in words."""
        came, went = self.series("admitted"), self.series("ended")
        step = POINTS // 6
        return [
            (
                clock(self._start + HOUR_S * place / POINTS, self._now)[-8:-3],
                rate(sum(came[place : place + step]) / step),
                rate(sum(went[place : place + step]) / step),
            )
            for place in range(0, POINTS, step)
        ]

    def _of(self, region: str | None) -> list[Bucket]:
        return [bucket for bucket in self._buckets if region is None or bucket.region == region]


def _value(bucket: Bucket, what: str) -> int:
    if what == "ended":
        return bucket.completed + bucket.failed + bucket.cancelled
    value: int = getattr(bucket, what)
    return value
