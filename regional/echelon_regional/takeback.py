"""Who holds what, and what nobody holds. Pure; the wire is in doors.py.

JetStream does not say who has a delivered message, so workers claim what they hold and answer roll calls
(protocol.md §5). A roll call has a number; it is over when each worker with a lease has answered *that*
number or lost its lease. What was delivered before it began, is open, and is in no answer, is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from echelon_core.entries import Claim, WorkerInfo
from echelon_core.names import work_consumer
from echelon_regional.state import Kind, RegionState


class Fleet:
    """The workers with a lease, and what they say they hold."""

    def __init__(self) -> None:
        self.workers: dict[str, WorkerInfo] = {}
        self.holders: dict[int, str] = {}  # work sequence -> worker
        self._awaited: set[str] = set()  # after a reconnect: workers that have not claimed since

    def present(self, info: WorkerInfo) -> bool:
        """A lease was made or renewed. True: something that others must know changed."""
        known = self.workers.get(info.id)
        self.workers[info.id] = info
        if known is not None and known.started_at != info.started_at:
            self._drop(info.id)  # another process under the same name holds nothing of it
        return known is None or (known.types, known.slots, known.draining, known.started_at) != (
            info.types, info.slots, info.draining, info.started_at,
        )  # fmt: skip

    def gone(self, worker: str) -> bool:
        """A lease was lost. True: it was known."""
        self._drop(worker)
        self._awaited.discard(worker)
        return self.workers.pop(worker, None) is not None

    def _drop(self, worker: str) -> None:
        for sequence in [s for s, holder in self.holders.items() if holder == worker]:
            del self.holders[sequence]

    def claimed(self, claim: Claim) -> None:
        self._awaited.discard(claim.worker)
        for sequence in claim.sequences:
            self.holders[sequence] = claim.worker

    def reconnected(self) -> None:
        """The server was away: until they have claimed again, nobody knows who holds what."""
        self._awaited = set(self.workers)

    @property
    def all_claimed(self) -> bool:
        return not self._awaited

    def forget(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self.holders.pop(sequence, None)

    def slots(self) -> dict[str, int]:
        """Lane of a pool (names.work_consumer) -> slots of all workers that are not draining."""
        total: dict[str, int] = {}
        for worker in self.workers.values():
            if not worker.draining:
                for lane, slots in worker.slots.items():
                    key = work_consumer(worker.pool, lane)
                    total[key] = total.get(key, 0) + slots
        return total

    def lanes(self) -> dict[Kind, str]:
        """What some worker offers -> its lane. Of two workers that disagree the first by name decides."""
        offered: dict[Kind, str] = {}
        for name in sorted(self.workers):
            worker = self.workers[name]
            if not worker.draining:
                for task_type, lane in worker.types.items():
                    offered.setdefault(Kind(task_type, worker.pool), work_consumer(worker.pool, lane))
        return offered


class RollCall:
    """One count of what is held. `delivered` (lane -> last sequence handed out) was read before."""

    def __init__(self, number: int, delivered: Mapping[str, int], released_upto: int) -> None:
        self.number = number
        self._delivered = delivered
        self._upto = released_upto
        self._held: set[int] = set()
        self._answered: set[str] = set()

    def answer(self, claim: Claim) -> None:
        if claim.call == self.number:
            self._answered.add(claim.worker)
            self._held.update(claim.sequences)
            self._held.update(claim.questioned)

    def granted(self, sequence: int) -> None:
        """A question was answered with `yours` while this call was under way: that is a claim too."""
        self._held.add(sequence)

    def missing(self, workers: Iterable[str]) -> list[str]:
        return sorted(set(workers) - self._answered)

    def lost(self, state: RegionState) -> list[tuple[int, int]]:
        """(ref, run) that were delivered by then and that nobody holds."""
        found: list[tuple[int, int]] = []
        for sequence, message in state.released.items():
            if (
                sequence <= min(self._delivered.get(message.lane, 0), self._upto)
                and sequence not in self._held
            ):
                found.extend(message.open.items())
        return found


def words(
    state: RegionState,
    fleet: Fleet,
    closing: Collection[int],
    asker: str,
    sequence: int,
    runs: Iterable[tuple[int, int]],
) -> tuple[str, list[tuple[int, int]]]:
    """May this worker run this doubtful message? ("over" | "wait" | "yours", the runs that are open).

    `closing`: refs of tasks whose last verdict is not durable yet; of those nothing is said.
    """
    runs = list(runs)
    if any(ref in closing for ref, _ in runs):
        return "wait", []
    still = [
        (ref, run) for ref, run in runs if (task := state.tasks.get(ref)) is not None and task.run == run
    ]
    if not still:
        return "over", []
    holder = fleet.holders.get(sequence)
    if holder is not None and holder != asker and holder in fleet.workers:
        return "wait", []
    return "yours", still
