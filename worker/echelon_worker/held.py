"""A work message in this worker's hands, from receipt to ack."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from echelon.wire.child import run_count

RunKey: TypeAlias = tuple[int, int]
"""(ref, run)"""


class Begun(NamedTuple):
    """A run that lasts. `at`: seconds since 1970, `token`: of its bundle."""

    ref: int
    run: int
    at: float


class Held:
    """One work message: an encoded bundle, where its ack goes, and what is still owed before the ack.

    It may be acked when its bundle is done, each of its large results lies in the object store, and each
    batch of outcomes that speaks of it is stored: `settled`.
    """

    __slots__ = (
        "begun", "beside", "data", "done", "handed_at", "lane", "received_at", "reply", "reported", "runs",
        "sequence", "working_at",
    )  # fmt: skip

    def __init__(self, sequence: int, lane: str, data: bytes, reply: str, now: float) -> None:
        self.sequence = sequence
        self.lane = lane
        self.data = data  # what is still to be run, encoded
        self.reply = reply  # "" = never ack: the number belongs to another message by now
        self.runs = run_count(data)  # not reported yet
        self.received_at = now
        self.working_at = now  # when the broker was last told that we are at it
        self.handed_at = 0.0
        self.reported: list[tuple[int, bytes]] = []  # (count, Ran items) that went on before it was done
        self.begun: dict[RunKey, Begun] = {}
        self.beside = 0  # large results and batches under way
        self.done = False

    @property
    def settled(self) -> bool:
        return self.done and not self.beside
