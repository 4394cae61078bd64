"""Admission and dependencies against a model that is slow and obviously right."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from echelon.wire.api import Admission, Group, Refusal, Submission, fingerprint, options_of
from echelon.wire.check import check_group
from echelon.wire.names import id_of
from echelon_core.entries import Admitted, Redriven, Settled
from echelon_master.admit import is_plain
from echelon_master.decide import Inputs
from echelon_master.state import MasterState
from echelon_master.tables import OUT, READY, WAITING
from support.master_world import World


class Naive:
    """Every task ever, by ref; what its dependencies are; how it ended ("" = it lives)."""

    def __init__(self) -> None:
        self.tasks: dict[int, Submission] = {}
        self.needs: dict[int, list[int]] = {}
        self.end: dict[int, str] = {}
        self.redriven: set[int] = set()
        self.ids: dict[str, int] = {}
        self.keys: dict[str, tuple[float, list[int]]] = {}

    def live(self) -> list[int]:
        return [ref for ref, kind in self.end.items() if not kind]

    def judge(self, group: Group, now: float, limit: int, first: int) -> list[int] | str:
        """Refs in the order of the group, or the code of the refusal. `first`: the next new ref."""
        if group.key in self.keys:
            return self.keys[group.key][1]
        if check_group(group.tasks):
            return "invalid"
        refs = []
        new = []
        for task in group.tasks:
            known = self.ids.get(task.id) if task.id else None
            if known is None:
                known = first + len(new)
                new.append((known, task))
            elif fingerprint(self.tasks[known]) != fingerprint(task):
                return "task_id_conflict"
            refs.append(known)
        own = {task.id: ref for ref, task in new if task.id}
        needs = {ref: [own.get(d, self.ids.get(d)) for d in task.dependencies] for ref, task in new}
        if any(need is None for wanted in needs.values() for need in wanted):
            return "invalid"
        if len(self.live()) + len(new) > limit:
            return "overloaded"
        for ref, task in new:
            self.tasks[ref], self.needs[ref], self.end[ref] = task, [n for n in needs[ref] if n], ""
            self.ids[task.id or id_of(ref)] = ref
            self.ids[id_of(ref)] = ref
        if new:
            self.keys[group.key] = (now, refs)
        return refs

    def doomed(self, ref: int) -> bool:
        return any(self.end[need] not in ("", "ok") for need in self.needs[ref])

    def waits(self, ref: int) -> bool:
        return any(not self.end[need] for need in self.needs[ref])


class Judged(World):
    """The world, with the model beside it."""

    def __init__(self, choose: Any) -> None:
        super().__init__(choose, check=False)
        self.naive = Naive()
        self.cancelled: set[str] = set()

    def look(self, entry: Any) -> None:
        super().look(entry)
        naive = self.naive
        if isinstance(entry, Settled):
            for where in entry.ok:
                for ref in where.refs:
                    naive.end[ref] = "ok"
            for end in entry.ended:
                if end.cause.startswith("dependency"):
                    need = naive.ids[end.detail]
                    assert need in naive.needs[end.ref], "blamed on what it did not wait for"
                    kind = "cancelled" if naive.end[need] == "cancelled" else "failed"
                    assert end.kind == kind and naive.end[need] not in ("", "ok")
                naive.end[end.ref] = end.kind
        elif isinstance(entry, Redriven):
            naive.end[entry.ref] = ""
            naive.redriven.add(entry.ref)
        elif isinstance(entry, Admitted):
            naive.keys = {key: row for key, row in naive.keys.items() if entry.at - row[0] <= 600}
            for group in entry.groups:
                for index, found in group.dependencies.items():
                    assert len(found) == len(group.tasks[index].dependencies)

    def submit(self) -> None:
        """One request a turn, so that the model need not know how entries are cut."""
        request = self.request()
        before = len(self.answers)
        first = (self.seq + 1) << 10
        said = []
        for group in request.submit.groups:
            expected = self.naive.judge(group, self.now, 60, first)
            said.append(expected)
            if isinstance(expected, list):
                first = max([first, *(ref + 1 for ref in expected)])
        self.turn(Inputs(submits=[request]))
        ((_, answer),) = self.answers[before:]
        for expected, got in zip(said, answer.groups, strict=True):
            if isinstance(got, Admission):
                assert got.refs() == expected
            else:
                assert isinstance(got, Refusal) and got.code == expected, got

    def agree(self, state: MasterState) -> None:
        naive = self.naive
        assert sorted(naive.live()) == [ref for ref, _ in state.tasks()]
        for ref, task in state.tasks():
            if ref in naive.redriven:
                continue
            assert not naive.doomed(ref), "lives on though a dependency ended badly"
            assert (task.stage == WAITING) == naive.waits(ref), "waits for nothing, or does not wait"
            assert task.stage in (WAITING, READY, OUT)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_admission_and_dependencies_are_those_of_the_model(data: st.DataObject) -> None:
    world = Judged(lambda n: data.draw(st.integers(0, n - 1)))
    for _ in range(data.draw(st.integers(1, 40))):
        world.step()
        world.agree(world.state)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_passes_at_a_glance_passes_the_check(data: st.DataObject) -> None:
    world = World(lambda n: data.draw(st.integers(0, n - 1)), check=False)
    for _ in range(5):
        world.submit()
    for _ in range(5):
        tasks = world.group().tasks
        if is_plain(world.state, tasks):
            assert check_group(tasks) == []


@given(st.text(max_size=8), st.integers(-1, 12), st.sampled_from(["", "a", "t-0000000000100", "ä", "."]))
def test_an_odd_field_is_never_plain(task_type: str, priority: int, task_id: str) -> None:
    world = World(lambda n: 0, check=False)
    tasks = [Submission(task_type, b"", task_id, priority)]
    assert not is_plain(world.state, tasks), "no task of this type lives: it was never checked"
    assert options_of(tasks[0])
