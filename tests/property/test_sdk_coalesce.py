"""Whatever is lost on the way, each group is admitted once and each caller learns its own refs."""

from __future__ import annotations

import asyncio
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from echelon import coalesce
from echelon.coalesce import Coalescer
from echelon.wire.api import Admission, Submission, SubmitAnswer, submit_request
from echelon.wire.codec import pack


class Lost(Exception):
    pass


@given(
    groups=st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=30),
    fates=st.lists(st.sampled_from(["request", "answer", "late", ""]), max_size=4),
)
def test_no_loss_submits_twice(groups: list[tuple[int, int]], fates: list[str]) -> None:
    admitted: dict[str, tuple[int, list[str]]] = {}
    left = list(fates)
    first = 0

    async def ask(data: bytes) -> bytes:
        nonlocal first
        fate = left.pop(0) if left else ""
        if fate == "request":
            raise Lost
        if fate == "late":
            await asyncio.sleep(0)
        answers: list[Admission] = []
        for group in submit_request(data).groups:
            if group.key not in admitted:
                admitted[group.key] = (first, [task.type for task in group.tasks])
                first += len(group.tasks)
            answers.append(Admission(admitted[group.key][0], len(group.tasks)))
        if fate == "answer":
            raise Lost
        return pack(SubmitAnswer(1, answers))  # type: ignore[arg-type]

    async def caller(coalescer: Coalescer, number: int, tasks: int, turns: int) -> list[int]:
        for _ in range(turns):
            await asyncio.sleep(0)
        done = await coalescer.submit([Submission(f"group{number}")] * tasks)
        return done.admission.refs()

    async def everybody() -> list[list[int]]:
        coalescer = Coalescer(ask, (Lost,))
        return await asyncio.gather(
            *(caller(coalescer, number, tasks, turns) for number, (tasks, turns) in enumerate(groups))
        )

    with mock.patch.object(coalesce, "_PAUSES_S", (0.0,)):
        refs = asyncio.run(everybody())
    assert len(admitted) == len(groups)
    assert sorted(ref for mine in refs for ref in mine) == list(range(sum(tasks for tasks, _ in groups)))
    by_first = {start: types for start, types in admitted.values()}
    for number, mine in enumerate(refs):
        assert by_first[mine[0]] == [f"group{number}"] * groups[number][0]
