"""What a failure becomes. The chance in it is a number given by the caller, so that it can be logged."""

from __future__ import annotations

from echelon.wire.api import Backoff


def delay_s(backoff: Backoff, failures: int, chance: float) -> float:
    """Seconds to wait after the `failures`-th charged run (from 1); `chance` is in [0, 1).

    Defaults (S4-53): 1 s doubled up to 300 s, plus up to a second so that a crowd spreads.

    >>> [delay_s(Backoff(), n, 0.0) for n in (1, 2, 3, 20)]
    [1.0, 2.0, 4.0, 300.0]
    """
    exponent = min(failures - 1, 64)
    match backoff.kind:
        case "constant":
            base = backoff.base_s
        case "linear":
            base = backoff.base_s * failures
        case _:
            base = backoff.base_s * backoff.factor**exponent
    return min(backoff.cap_s, base) + backoff.jitter_s * chance


def spread(*parts: int) -> float:
    """A number in [0, 1) that looks like chance and is the same on every replay (SplitMix64 of `parts`).

    >>> spread(1, 2) == spread(1, 2) != spread(1, 3)
    True
    """
    state = 0
    for part in parts:
        state = (state ^ part) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state / 2**64
