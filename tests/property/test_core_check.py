"""What a submission must satisfy, against a model that walks every path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.wire.api import Backoff, Options, Submission
from echelon.wire.check import check_group, check_task

names = st.sampled_from([f"task-{letter}" for letter in "abcdefg"])


@st.composite
def groups(draw: st.DrawFn) -> list[Submission]:
    """Distinct ids, any dependencies among them or on earlier tasks, none on itself."""
    ids = draw(st.lists(names, min_size=1, max_size=7, unique=True))
    needs = st.sets(names | st.just("earlier"))
    return [Submission("t", id=own, dependencies=tuple(sorted(draw(needs) - {own}))) for own in ids]


def walks_in_circles(tasks: Sequence[Submission]) -> bool:
    """Follow every path from every task until one repeats: slow and obviously right."""
    needs = {task.id: [d for d in task.dependencies] for task in tasks}

    def circles(path: list[str]) -> bool:
        return any(then in path or circles([*path, then]) for then in needs.get(path[-1], ()))

    return any(circles([task.id]) for task in tasks)


@given(groups())
def test_cycles_are_found_and_nothing_else_is(tasks: list[Submission]) -> None:
    errors = check_group(tasks)
    assert [error.code for error in errors] == (["cycle"] if walks_in_circles(tasks) else [])


@given(groups())
def test_a_cycle_is_told_as_a_walk_that_closes(tasks: list[Submission]) -> None:
    needs = {task.id: task.dependencies for task in tasks}
    for error in check_group(tasks):
        walk = error.message.removeprefix("These wait for each other: ").removesuffix(".").split(" → ")
        assert walk[0] == walk[-1] and len(walk) == len(set(walk)) + 1
        assert all(then in needs[one] for one, then in pairwise(walk))


def chain(length: int) -> list[Submission]:
    return [Submission("t", id=f"n{i}", dependencies=(f"n{i - 1}",) if i else ()) for i in range(length)]


@given(st.permutations(chain(8)))
def test_the_order_within_a_request_does_not_matter(tasks: list[Submission]) -> None:
    assert check_group(tasks) == []


def test_a_chain_of_a_thousand_is_walked_without_recursion() -> None:
    assert check_group(chain(1000)) == []
    ring = [Submission("t", id=f"n{i}", dependencies=(f"n{(i + 1) % 1000}",)) for i in range(1000)]
    assert [error.code for error in check_group(ring)] == ["cycle"]


@pytest.mark.parametrize(
    ("task", "field", "code"),
    [
        (Submission(""), "task_type", "task_type"),
        (Submission("no spaces"), "task_type", "task_type"),
        (Submission("x" * 256), "task_type", "task_type"),
        (Submission("t", id="..."), "task_id", "task_id"),
        (Submission("t", id="a b"), "task_id", "task_id"),
        (Submission("t", id="t-0000000000100"), "task_id", "reserved_id"),
        (Submission("t", priority=0), "priority", "priority"),
        (Submission("t", priority=11), "priority", "priority"),
        (Submission("t", payload_bytes=2**27), "payload", "payload_too_large"),
        (Submission("t", options=Options(timeout_s=0)), "timeout", "timeout"),
        (Submission("t", options=Options(timeout_s=-1)), "timeout", "timeout"),
        (Submission("t", options=Options(timeout_s=float("nan"))), "timeout", "timeout"),
        (Submission("t", options=Options(timeout_s=float("inf"))), "timeout", "timeout"),
        (Submission("t", options=Options(timeout_s=604_801)), "timeout", "timeout"),
        (Submission("t", options=Options(retries=-1)), "retries", "retries"),
        (Submission("t", options=Options(region="_x")), "region", "region"),
        (Submission("t", options=Options(pool="a.b")), "pool", "pool"),
        (Submission("t", options=Options(pool="")), "pool", "pool"),
        (Submission("t", options=Options(tags=("",))), "tags", "tags"),
        (Submission("t", options=Options(backoff=Backoff(factor=1e6))), "backoff.factor", "backoff"),
        (Submission("t", options=Options(backoff=Backoff(factor=float("nan")))), "backoff.factor", "backoff"),
        (Submission("t", options=Options(backoff=Backoff(base_s=-1))), "backoff.base_s", "backoff"),
        (Submission("t", options=Options(backoff=Backoff(cap_s=float("inf")))), "backoff.cap_s", "backoff"),
        (Submission("t", options=Options(backoff=Backoff("sometimes"))), "backoff", "backoff"),
        (Submission("t", id="a", dependencies=("a",)), "dependencies[0]", "self_dependency"),
        (Submission("t", dependencies=("b", "?!")), "dependencies[1]", "task_id"),
        (Submission("t", dependencies=("b",) * 10_001), "dependencies", "dependencies"),
    ],
)
def test_each_bad_field_is_named_with_its_mend(task: Submission, field: str, code: str) -> None:
    errors = list(check_task(task, "tasks[3]."))
    assert [(error.field, error.code) for error in errors] == [(f"tasks[3].{field}", code)]
    assert errors[0].message


def test_every_bad_field_is_named_not_only_the_first() -> None:
    bad = Submission("no spaces", id="a b", priority=99, options=Options(timeout_s=0, retries=-1))
    fields = {error.field for error in check_task(bad)}
    assert fields == {"task_type", "task_id", "priority", "timeout", "retries"}


def test_a_repeated_id_names_both_places() -> None:
    errors = check_group([Submission("t", id="a"), Submission("t", id="b"), Submission("t", id="a")])
    assert [(error.field, error.code) for error in errors] == [("tasks[2].task_id", "repeated_id")]
    assert "tasks[0]" in errors[0].message


def test_nothing_and_too_much_are_refused() -> None:
    assert [error.code for error in check_group([])] == ["empty"]
    assert [error.code for error in check_group([Submission("t")] * 1001)] == ["too_many"]
    assert check_group([Submission("t")] * 1000) == []


@given(st.text(), st.text(), st.integers(), st.tuples(st.text()))
def test_hostile_text_never_breaks_the_check(kind: str, own: str, priority: int, on: tuple[str]) -> None:
    task = Submission(kind, id=own, priority=priority, dependencies=on)
    assert all(isinstance(error, msgspec.Struct) for error in check_group([task], ""))
