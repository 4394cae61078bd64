"""A master's fold that a test leads by hand, one turn after the other."""

from __future__ import annotations

from typing import Any, TypeVar

from echelon.wire.api import Act, Admission, Done, Group, Notice, Refusal, Submission, Submit
from echelon_core.entries import Delegated, Room, Verdicts, encode, ledger_entry
from echelon_core.fold import Step
from echelon_master.admit import SubmitRequest
from echelon_master.control import ActRequest
from echelon_master.decide import Inputs, Master, Policy
from echelon_master.state import MasterState
from support.master_world import EndedByHand

EntryT = TypeVar("EntryT")


class Hand:
    def __init__(self, policy: Policy | None = None, cache_bytes: int = 1 << 20) -> None:
        self.ended = EndedByHand()
        self.state = MasterState(cache_bytes, self.ended.feed)
        self.notices: list[tuple[str, Notice]] = []
        self.now = 1000.0
        self.fold = Master(self.state, self.ended, self.told, policy or Policy(), self.now)
        self.ledger: list[Any] = []  # entry n has sequence n + 1
        self.positions: dict[str, int] = {}

    def told(self, inbox: str, notice: Notice) -> None:
        self.notices.append((inbox, notice))

    def turn(self, inputs: Inputs | None = None, after_s: float = 0.1) -> list[Any]:
        """Decide and apply; returns the entries of this turn."""
        self.now += after_s
        written: list[Any] = []
        for step in self.fold.decide(inputs or Inputs(), self.now):
            self._write(step, written)
        return written

    def _write(self, step: Step, written: list[Any]) -> None:
        if step.entry is not None:
            entry = ledger_entry(encode(step.entry))
            self.ledger.append(entry)
            self.fold.apply(len(self.ledger), entry)
            written.append(entry)
        for effect in step.effects:
            effect(len(self.ledger))

    # ------------------------------------------------------------------ clients
    def submit(self, *tasks: Submission, key: str = "", inbox: str = "") -> Admission | Refusal:
        return self.submit_groups([Group(key, list(tasks))], inbox)[0]

    def submit_groups(self, groups: list[Group], inbox: str = "") -> list[Admission | Refusal]:
        said: list[Admission | Refusal] = []
        request = SubmitRequest(Submit(inbox, groups), 100, lambda answer: said.extend(answer.groups))
        self.turn(Inputs(submits=[request]))
        return said

    def admit(self, *tasks: Submission, key: str = "", inbox: str = "") -> list[int]:
        said = self.submit(*tasks, key=key, inbox=inbox)
        assert isinstance(said, Admission), said
        return said.refs()

    def cancel(self, *ids: str) -> list[Done | Refusal]:
        said: list[Done | Refusal] = []
        request = ActRequest(Act(list(ids)), lambda answer: said.extend(answer.items))
        self.turn(Inputs(cancels=[request]))
        return said

    def retry(self, task_id: str, submission: Submission, ref: int) -> Done | Refusal:
        said: list[Done | Refusal] = []
        request = ActRequest(Act([task_id]), lambda answer: said.extend(answer.items), {ref: submission})
        self.turn(Inputs(retries=[request]))
        return said[0]

    # ------------------------------------------------------------------ regions
    def rooms(self, **credits: int) -> list[Delegated]:
        """Reports of regions that offer `quick` and `slow`; returns what was delegated upon them."""
        types = {"quick": "async", "slow": "sync"}
        rooms = {name: Room(name, 1, credit, types, 1, 1) for name, credit in credits.items()}
        return self.only(self.turn(Inputs(rooms=rooms)), Delegated)

    def verdicts(self, region: str, ok: list[int] | None = None, **more: Any) -> list[Any]:
        """A region's entry about what it has read of the ledger so far (or up to `ledger`)."""
        self.positions[region] = position = self.positions.get(region, 0) + 1
        ledger = more.pop("ledger", len(self.ledger))
        entry = Verdicts(ledger, position, self.now, [(70 + position, ok)] if ok else [], **more)
        return self.turn(Inputs(logs={region: [(position, entry)]}))

    @staticmethod
    def only(entries: list[Any], kind: type[EntryT]) -> list[EntryT]:
        return [entry for entry in entries if isinstance(entry, kind)]


def placed(delegated: list[Delegated]) -> list[tuple[str, int]]:
    """(region, ref), in the order of the entries."""
    return [(entry.region, item.ref) for entry in delegated for item in entry.items]
