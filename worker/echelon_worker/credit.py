"""How many messages a lane asks for: enough to keep its slots busy over a round trip, never a hoard.

Credit counts *time*, for the same hundred tasks are a millisecond of work or a day. What a worker holds and
has not begun cannot be overtaken by an urgent task and must be looked for when the worker dies, so it holds
what its slots work off in `HORIZON_S` and no more; but a free slot always asks, however long its tasks take.

The measure is the *pace* of a whole lane, seconds between two runs that end while it has work: it needs no
look into the outcomes, and is right for one blocking slot as for a hundred coroutines on one thread.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

HORIZON_S: Final = 0.05
AHEAD_S: Final = 0.01
"""What a child may hold beyond its slots, so that it need not wait for the pipe between two short bundles.
One that has told no end for that long is in something that lasts: what it is given would be stuck there."""
MOST: Final = 256
"""Messages asked for at once, at most: what a frozen worker swallows."""
_MEMORY: Final = 0.9  # of what was, at each report of runs that ended: some twenty reports count


class Pace(msgspec.Struct):
    """What a lane has shown so far. `each_s`: seconds of the lane for a run, 0.0 while unknown."""

    each_s: float = 0.0
    per_message: float = 1.0
    last_end: float = 0.0
    busy_s: float = 0.0
    ended: float = 0.0

    def arrived(self, runs: int) -> None:
        """A message came with so many runs."""
        self.per_message += (runs - self.per_message) * (1 - _MEMORY)

    def came_back(self, runs: int, handed_at: float, now: float) -> None:
        """So many runs have ended, of a bundle that was given to a child at `handed_at`.

        The lane worked on them since then, or since the last end before: both clocks are the same, monotonic.
        """
        self.busy_s = self.busy_s * _MEMORY + max(0.0, now - max(self.last_end, handed_at))
        self.ended = self.ended * _MEMORY + runs
        self.last_end = now
        if self.ended > 0:
            self.each_s = self.busy_s / self.ended


def worth(pace: Pace, seconds: float) -> float:
    """How many runs the lane ends in that time; 0 while its pace is unknown."""
    return seconds / max(pace.each_s, 1e-9) if pace.each_s > 0 else 0.0


def ask(pace: Pace, slots: int, held: int, share: float) -> int:
    """How many messages may be open, beside the `held` runs that are here and have not ended.

    `share` is what the pressure on the machine leaves of the credit (1.0: all). A free slot asks for one even
    then; at 0.0 only a lane that holds nothing does, so that a machine without memory still gets on.

    >>> ask(Pace(), slots=4, held=0, share=1.0)            # nothing known: one for each slot
    4
    >>> ask(Pace(each_s=10.0), slots=4, held=4, share=1.0)
    0
    >>> ask(Pace(each_s=0.0001, per_message=10), slots=1, held=100, share=1.0)   # 500 are 50 ms; 100 are here
    40
    """
    free = slots - held
    wanted = max(free, worth(pace, HORIZON_S) - held)
    if wanted <= 0 or slots <= 0:
        return 0
    if share <= 0.0:
        return 0 if held else 1
    messages = math.ceil(wanted * share / max(1.0, pace.per_message) - 1e-9)
    return min(MOST, max(messages, 1 if free > 0 else 0))


def fits(pace: Pace, slots: int, children: int, given: int, silent_s: float) -> bool:
    """May a child that was given `given` runs, not ended, be given another bundle?

    `slots` are this child's, `children` how many share the lane's pace; `silent_s`: since it told an end.
    """
    return given < slots or (silent_s < AHEAD_S and given * children < worth(pace, AHEAD_S))
