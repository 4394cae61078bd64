"""Many callers, one request: who travels with whom, and what an unknown outcome becomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from echelon import Overloaded, PayloadTooLarge, Unavailable
from echelon.coalesce import AT_ONCE, Coalescer, to_be_moved, weight
from echelon.wire.api import (
    Admission,
    Options,
    Refusal,
    Submission,
    SubmitAnswer,
    submit_request,
)
from echelon.wire.codec import pack
from echelon.wire.names import INLINE_BYTES, REQUEST_BYTES, TASKS_PER_REQUEST


class Lost(Exception):
    pass


class Master:
    """Answers in its own time; remembers keys."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.admitted: dict[str, Admission] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.first = 1024
        self.lose: list[str] = []  # what becomes of the next requests: "request", "answer" or "refuse"
        self.under_way = self.most = 0

    async def __call__(self, data: bytes) -> bytes:
        self.requests.append(data)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        fate = self.lose.pop(0) if self.lose else ""
        if fate == "request":
            raise Lost("lost on the way")
        if fate == "refuse":
            return pack(Refusal("unavailable", 503, "", "no leader yet"))
        answers: list[Admission | Refusal] = []
        for group in submit_request(data).groups:
            if group.tasks[0].type == "full":
                answers.append(Refusal("overloaded", 429, "", "", retry_after_s=3.0))
                continue
            if group.key not in self.admitted:
                self.admitted[group.key] = Admission(self.first, len(group.tasks))
                self.first += len(group.tasks)
            answers.append(self.admitted[group.key])
        if fate == "answer":
            raise Lost("the answer was lost")
        return pack(SubmitAnswer(7, answers))


def coalescer(ask: Callable[[bytes], Awaitable[bytes]], patience_s: float = 30.0) -> Coalescer:
    return Coalescer(ask, (Lost,), lambda: "inbox", patience_s)


async def test_what_comes_in_one_turn_travels_together() -> None:
    master = Master()
    submit = coalescer(master).submit
    admitted = await asyncio.gather(*(submit([Submission(f"t{n}")]) for n in range(500)))
    assert len(master.requests) == 1
    assert [done.admission.first for done in admitted] == list(range(1024, 1524))
    assert {done.position for done in admitted} == {7}
    assert submit_request(master.requests[0]).inbox == "inbox"


async def test_what_comes_while_requests_are_under_way_gathers_for_the_next() -> None:
    master = Master()
    master.open.clear()
    submit = coalescer(master).submit
    callers = []
    for n in range(AT_ONCE + 50):
        callers.append(asyncio.ensure_future(submit([Submission(f"t{n}")])))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(master.requests) == AT_ONCE
    master.open.set()
    await asyncio.gather(*callers)
    assert len(master.requests) == AT_ONCE + 1
    assert master.most == AT_ONCE
    assert len(submit_request(master.requests[-1]).groups) == 50


async def test_requests_keep_their_limits() -> None:
    master = Master()
    submit = coalescer(master).submit
    groups = [[Submission("t", b"x" * 60_000)]] * 20 + [[Submission("t")] * 400] * 6
    await asyncio.gather(*(submit(group) for group in groups))
    assert all(len(request) <= REQUEST_BYTES for request in master.requests)
    sizes = [sum(len(group.tasks) for group in submit_request(data).groups) for data in master.requests]
    assert max(sizes) <= TASKS_PER_REQUEST
    assert sum(sizes) == 20 + 2400
    with pytest.raises(PayloadTooLarge):
        await submit([Submission("t", b"x" * 100_000)] * 6)


@pytest.mark.parametrize("fate", ["request", "answer", "refuse"])
async def test_an_unknown_outcome_is_asked_again_with_the_same_bytes(fate: str) -> None:
    master = Master()
    master.lose = [fate, fate]
    submit = coalescer(master).submit
    [done] = await asyncio.gather(submit([Submission("t")] * 3))
    assert len(master.requests) == 3
    assert len(set(master.requests)) == 1
    assert len(master.admitted) == 1
    assert done.admission.refs() == [1024, 1025, 1026]


async def test_patience_ends() -> None:
    master = Master()
    master.lose = ["request"] * 100
    with pytest.raises(Unavailable, match="lost on the way"):
        await coalescer(master, patience_s=0.2).submit([Submission("t")])
    assert len(set(master.requests)) == 1


async def test_each_caller_has_its_own_answer() -> None:
    master = Master()
    submit = coalescer(master).submit
    answers = await asyncio.gather(
        submit([Submission("a")]),
        submit([Submission("full")]),
        submit([Submission("b")]),
        return_exceptions=True,
    )
    assert isinstance(answers[1], Overloaded)
    assert answers[1].retry_after_s == 3.0
    assert not any(isinstance(answers[n], BaseException) for n in (0, 2))


async def test_a_refusal_of_the_whole_request_reaches_every_caller() -> None:
    async def refuse(data: bytes) -> bytes:
        return pack(Refusal("invalid", 422, "", "no"))

    submit = coalescer(refuse).submit
    answers = await asyncio.gather(*(submit([Submission("a")]) for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["no"] * 3


async def test_a_caller_that_leaves_harms_no_other() -> None:
    master = Master()
    master.open.clear()
    submit = coalescer(master).submit
    one, two = (asyncio.ensure_future(submit([Submission("t")])) for _ in range(2))
    await asyncio.sleep(0.01)
    one.cancel()
    master.open.set()
    assert (await two).admission.count == 1


async def test_a_key_of_the_callers_is_kept() -> None:
    master = Master()
    submit = coalescer(master).submit
    first = await submit([Submission("t")], "mine")
    assert await submit([Submission("t")], "mine") == first
    assert list(master.admitted) == ["mine"]


def test_large_payloads_are_moved_until_the_rest_fits() -> None:
    small, large = Submission("t", b"x" * 100), Submission("t", b"x" * (INLINE_BYTES + 1))
    middle = Submission("t", b"x" * 100_000)
    assert to_be_moved([small] * 1000) == []
    assert to_be_moved([small, large, small]) == [1]
    group = [small, *[middle] * 8, large]
    moved = to_be_moved(group)
    assert moved[0] == 9
    assert sum(weight(task) for index, task in enumerate(group) if index not in moved) <= REQUEST_BYTES
    assert len(moved) == 1 + 3


def test_weight_is_never_less_than_what_travels() -> None:
    tasks = [
        Submission("t"),
        Submission("t" * 255, b"x" * 70_000, "i" * 128, 10, tuple(["d" * 128] * 300)),
        Submission("t", options=Options(1e5, 1000, "r" * 64, "p" * 64, tuple(["ü" * 128] * 64), "x" * 64)),
    ]
    assert all(weight(task) >= len(pack(task)) for task in tasks)
