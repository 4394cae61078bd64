"""A master's fold with everything around it that it can see, driven by choices. Used by several tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from echelon.wire.api import (
    Act,
    ActAnswer,
    Admission,
    Done,
    Group,
    Notice,
    Options,
    Refusal,
    Submission,
    Submit,
    SubmitAnswer,
)
from echelon.wire.names import id_of
from echelon_core.entries import (
    Admitted,
    Again,
    Cancel,
    Delegated,
    Ended,
    Redriven,
    Returned,
    Room,
    Settled,
    Verdicts,
    Withdrawn,
    encode,
    ledger_entry,
    region_entry,
)
from echelon_master import image
from echelon_master.admit import SubmitRequest
from echelon_master.control import ActRequest
from echelon_master.decide import Inputs, Master, Policy
from echelon_master.state import MasterState
from echelon_master.tables import BACK, DOOMED, READY, EndedTask

REGIONS = ("east", "west")
TYPES = ("quick", "slow", "odd")  # nobody offers odd
CACHE = 400


class EndedByHand:
    """The ended index as dicts that grow: obviously right."""

    def __init__(self) -> None:
        self.ids: dict[str, EndedTask] = {}
        self.refs: dict[int, EndedTask] = {}

    def feed(self, seq: int, entry: Settled, named: list[EndedTask]) -> None:
        for where in entry.ok:
            for ref in where.refs:
                self.refs[ref] = EndedTask(ref, "ok", where.region, where.sequence)
        for end in entry.ended:
            self.refs[end.ref] = EndedTask(end.ref, end.kind, end.region, end.sequence)
        for task in named:
            self.ids[task.id] = task

    def named(self, ids: Sequence[str]) -> dict[str, EndedTask]:
        return {name: self.ids[name] for name in ids if name in self.ids}

    def by_ref(self, ref: int) -> EndedTask | None:
        return self.refs.get(ref)


class World:
    def __init__(self, choose: Callable[[int], int], check: bool = True) -> None:
        self.choose = choose  # choose(n) -> 0..n-1
        self.check = check
        self.ended = EndedByHand()
        self.state = MasterState(CACHE, self.ended.feed)
        self.notices: list[tuple[str, Notice]] = []
        self.now = 1_000.0
        self.fold = Master(
            self.state, self.ended, self.told, Policy(backlog_tasks=60, region_grace_s=5.0), self.now
        )
        self.log: list[tuple[int, bytes, str]] = []
        self.seq = 0
        self.positions = dict.fromkeys(REGIONS, 0)
        self.refs: list[int] = []
        self.ids: list[str] = []
        self.keys: list[Group] = []
        self.answers: list[tuple[Submit, SubmitAnswer]] = []
        self.acts: list[tuple[str, Act, ActAnswer]] = []
        self.submitted: dict[int, Submission] = {}
        self.delegations: dict[int, list[tuple[str, int]]] = {}
        self.ends: dict[int, int] = {}  # ref -> ends minus redrives

    def told(self, inbox: str, notice: Notice) -> None:
        self.notices.append((inbox, notice))

    # ------------------------------------------------------------------ the loop, without a log
    def turn(self, inputs: Inputs) -> None:
        for step in self.fold.decide(inputs, self.now):
            if step.entry is not None:
                data = encode(step.entry)
                self.seq += 1
                entry = ledger_entry(data)
                self.look(entry)
                self.fold.apply(self.seq, entry)
                self.log.append((self.seq, data, image.digest(self.state) if self.check else ""))
                assert len(data) < 600 * 1024
            for effect in step.effects:
                effect(self.seq)
        assert not self.state.doomed and not self.state.back

    def look(self, entry: Any) -> None:
        """Promises that every entry keeps."""
        state = self.state
        if isinstance(entry, Settled):
            over = [ref for where in entry.ok for ref in where.refs] + [end.ref for end in entry.ended]
            assert len(over) == len(set(over))
            for ref in over:
                assert state.find(ref) is not None, "an end of what does not live"
                self.ends[ref] = self.ends.get(ref, 0) + 1
                assert self.ends[ref] == 1, "two ends of one task"
            assert entry.region or not entry.ok, "only a region says that a task went well"
        elif isinstance(entry, Redriven):
            self.ends[entry.ref] -= 1
            assert self.ends[entry.ref] == 0
        elif isinstance(entry, Delegated):
            assert 0 < len(entry.items) <= 1000
            for item in entry.items:
                task = state.find(item.ref)
                assert task is not None and task.stage == READY and not task.wanted
                assert task.kind.options.region in ("", entry.region)
                assert item.type != "odd", "placed where nobody offers the type"
                self.delegations.setdefault(item.ref, []).append((entry.region, self.seq))
                assert item.payload is None or item.payload == self.submitted_payload(item.ref)
        elif isinstance(entry, Admitted):
            index = 0
            for group in entry.groups:
                for task in group.tasks:
                    ref = self.seq << 10 | index
                    self.submitted[ref] = task
                    self.refs.append(ref)
                    self.ids.append(task.id or id_of(ref))
                    index += 1
            assert 0 < index <= 1000
        elif isinstance(entry, Cancel | Withdrawn):
            for ref, delegation in entry.tasks:
                assert self.delegations[ref][-1] == (entry.region, delegation)

    def submitted_payload(self, ref: int) -> bytes:
        return self.submitted[ref].payload

    # ------------------------------------------------------------------ what happens
    def step(self) -> None:
        self.now += 400.0 if not self.choose(100) else 0.2 * self.choose(3)
        happening = (self.submit, self.report, self.report, self.report, self.verdict, self.verdict,
                     self.verdict, self.verdict, self.cancel, self.retry, self.silence)  # fmt: skip
        happening[self.choose(len(happening))]()

    def pick(self, things: Sequence[Any]) -> Any:
        return things[self.choose(len(things))]

    def group(self) -> Group:
        if self.keys and not self.choose(5):
            return self.keys[self.choose(len(self.keys))]
        tasks: list[Submission] = []
        for number in range(1 + self.choose(4)):
            fresh = f"u{len(self.keys)}-{number}"
            task_id = fresh if self.choose(2) else ""
            if self.keys and not self.choose(12):
                again = self.pick(self.keys).tasks
                tasks += [task for task in again if task.id and task.id not in {t.id for t in tasks}]
                continue
            if self.ids and not self.choose(40):
                task_id = self.pick(self.ids[-6:])
            wants = [t.id for t in tasks if t.id] + self.ids[-8:] + ["never-seen"] * (not self.choose(30))
            dependencies = tuple(self.pick(wants) for _ in range(self.choose(3))) if wants else ()
            options = None if self.choose(3) else Options(region=self.pick(["", *REGIONS]), retries=1)
            payload = b"{}" if self.choose(4) else b'"' + b"x" * self.pick([200, 5000]) + b'"'
            priority = 1 + self.choose(10) if self.choose(40) else 11
            tasks.append(Submission(self.some_type(), payload, task_id, priority, dependencies, options))
        if not self.choose(2):
            tasks.reverse()
        group = Group(f"key{len(self.keys)}", tasks)
        self.keys.append(group)
        return group

    def some_type(self) -> str:
        return "odd" if not self.choose(25) else self.pick(TYPES[:2])

    def request(self) -> SubmitRequest:
        submit = Submit(
            self.pick(["", "inbox1", "inbox2"]), [self.group() for _ in range(1 + self.choose(3))]
        )
        return SubmitRequest(submit, 1000, lambda answer: self.answers.append((submit, answer)))

    def submit(self) -> None:
        self.turn(Inputs(submits=[self.request() for _ in range(1 + self.choose(3))]))

    def report(self) -> None:
        rooms = {}
        for region in REGIONS:
            if self.choose(3):
                types = {name: "async" for name in TYPES[:2] if self.choose(4)}
                rooms[region] = Room(region, 1, self.choose(30), types, 1, 1)
        self.turn(Inputs(rooms=rooms))

    def silence(self) -> None:
        """A region may be gone for longer than its grace, or merely not report."""
        self.now += self.pick([1.0, 2.0, 3.0, 8.0])
        self.turn(Inputs(leases={self.pick(REGIONS): bool(self.choose(2))}))

    def verdict(self) -> None:
        logs: dict[str, list[Any]] = {}
        for region in REGIONS:
            for _ in range(self.choose(4)):
                self.positions[region] += 1 + self.choose(2)
                entry = region_entry(encode(self.verdicts(region)))
                logs.setdefault(region, []).append((self.positions[region], entry))
        self.turn(Inputs(logs=logs))

    def verdicts(self, region: str) -> Verdicts:
        """What a region may say, of what it has, of what it had, and of what it never saw."""
        said = Verdicts(self.seq - self.choose(3), self.positions[region], self.now, [])
        over: set[int] = set()
        for _ in range(self.choose(9)):
            if not self.refs:
                break
            ref = self.refs[-1 - self.choose(min(len(self.refs), 12))]
            out = [r for r, task in self.state.tasks() if task.region == region]
            if out and self.choose(4):
                ref = self.pick(out)
            if ref in over:
                continue
            over.add(ref)
            charged, losses = self.choose(2), self.choose(2)
            match self.choose(7):
                case 0 | 1 | 2:
                    said.ok.append((1 + self.choose(99), [ref]))
                case 3:
                    kind = self.pick(["dead", "poison", "cancelled", "expired"])
                    said.ended.append(Ended(ref, 0, kind, "error", 5, charged, losses))
                case 4:
                    said.returned.append(Returned(ref, charged, losses))
                case _:
                    said.again.append(Again(ref, 0, "error", self.now, charged, losses))
        return said

    def some_ids(self) -> list[str]:
        known = [*self.ids[-20:], "never-seen", id_of(1 << 50)]
        return [self.pick(known) for _ in range(1 + self.choose(3))]

    def cancel(self) -> None:
        act = Act(self.some_ids(), "ana", "why not")
        self.turn(Inputs(cancels=[ActRequest(act, lambda a: self.acts.append(("cancel", act, a)))]))

    def retry(self) -> None:
        act = Act(self.some_ids(), "ana")
        found = {} if not self.choose(5) else dict(self.submitted)
        self.turn(Inputs(retries=[ActRequest(act, lambda a: self.acts.append(("retry", act, a)), found)]))

    # ------------------------------------------------------------------ what must hold
    def replayed(self) -> MasterState:
        """Fold the log anew, from its bytes, and compare at every entry."""
        state = MasterState(CACHE * 3)  # what is cached is no part of the state
        for seq, data, digest in self.log:
            state.apply(seq, ledger_entry(data))
            if digest:
                assert image.digest(state) == digest
        return state

    def coherent(self, state: MasterState) -> None:
        """The indexes agree with the tasks."""
        tasks = dict(state.tasks())
        assert state.live == len(tasks)
        ready = {ref for ref, task in tasks.items() if task.stage == READY}
        seen = [ref for level, kind in state.room.kinds() for ref in state.room.peek(level, kind, 10_000)]
        assert sorted(seen) == sorted(ready) and state.room.count == len(ready)
        assert state.ids == {task.id: ref for ref, task in tasks.items() if task.id}
        for name in REGIONS:
            assert state.region(name).out == sum(task.region == name for task in tasks.values())
        assert set(state.doomed) == {ref for ref, task in tasks.items() if task.stage == DOOMED}
        assert set(state.back) == {ref for ref, task in tasks.items() if task.stage == BACK}
        assert state.cached_bytes == sum(len(task.payload or b"") for task in tasks.values())
        assert len(state.kinds) == len({(t.kind.type, t.kind.options) for t in tasks.values()})

    def answered(self) -> None:
        """Every answer is of tasks that exist, in the order of the group."""
        for submit, answer in self.answers:
            assert len(answer.groups) == len(submit.groups)
            for group, said in zip(submit.groups, answer.groups, strict=True):
                if isinstance(said, Admission):
                    assert len(said.refs()) == len(group.tasks)
                    for ref, task in zip(said.refs(), group.tasks, strict=True):
                        assert self.submitted[ref].type == task.type
                        assert self.submitted[ref].payload == task.payload
                        assert ref >> 10 <= answer.position
        for _, act, acted in self.acts:
            assert len(acted.items) == len(act.ids)
            assert all(isinstance(item, Done | Refusal) for item in acted.items)
