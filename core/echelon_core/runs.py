"""Runs and delegations: what is open, what still counts.

A run is one integer, delegation × 1024 + n with n from 1. Exactly one run of a task is current; whatever
speaks of another one changes nothing (ADR 4). A task that uses up the 1,023 runs of one delegation
(hand-backs are free) is returned to the master and placed again.
"""

from __future__ import annotations

from typing import Final

REDELIVERY_LIMIT: Final = 5
"""More losses than this make a task poison: it takes its workers with it."""
RUNS: Final = 1024


def first_run(delegation: int) -> int:
    return delegation * RUNS + 1


def next_run(run: int) -> int:
    return run + 1


def delegation_of(run: int) -> int:
    """
    >>> delegation_of(first_run(7)), delegation_of(next_run(first_run(7)))
    (7, 7)
    """
    return run // RUNS


def ref_of(sequence: int, index: int) -> int:
    return sequence << 10 | index


def sequence_of(ref: int) -> int:
    return ref >> 10


def index_of(ref: int) -> int:
    return ref & 1023
