"""Outcomes on their way: batches, retries, and the order of PubAck and ack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from echelon.wire.child import OK, Bundle, Ran, Run, Started, encode_bundle, outcomes
from echelon.wire.codec import pack
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import NoResponders, Timeout
from echelon_worker.chores import Chores
from echelon_worker.held import Held
from echelon_worker.outcomes import BATCH_BYTES, UNDER_WAY, Outcomes
from support.eventually import eventually

STORED = b'{"stream":"s","seq":1}'
FULL = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"seq":0}'


class Broker:
    """Answers publishes when the test says so."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.waiting: list[asyncio.Future[bytes]] = []

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        self.sent.append(data)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        return await answer

    def answer(self, result: bytes | Exception = STORED) -> None:
        waiting = self.waiting.pop(0)
        if isinstance(result, Exception):
            waiting.set_exception(result)
        else:
            waiting.set_result(result)


class Scene:
    def __init__(self) -> None:
        self.broker = Broker()
        self.acked: list[int] = []
        self.outcomes = Outcomes(cast(Bus, self.broker), "east", "w1", Chores(), self._settled)

    def _settled(self, helds: Sequence[Held]) -> None:
        self.acked += [held.sequence for held in helds]

    def held(self, sequence: int) -> Held:
        return Held(sequence, "async", encode_bundle(Bundle(False, [Run(1, 1, "t", b"", 1, 1)])), "r", 0.0)

    async def until(self, look: Callable[[], Any]) -> None:
        await eventually(look, 5)


def item(ref: int, size: int = 4) -> bytes:
    return pack(Ran(ref, 1, OK, b"x" * size, 1.0, 2.0))


def done(scene: Scene, sequence: int, size: int = 4) -> Held:
    held = scene.held(sequence)
    held.done = True
    scene.outcomes.add(held, 1, item(sequence, size))
    return held


async def test_the_first_goes_at_once_and_what_comes_meanwhile_goes_together() -> None:
    scene = Scene()
    done(scene, 1)
    await scene.until(lambda: len(scene.broker.sent) == 1)
    for sequence in (2, 3, 4):
        done(scene, sequence)
    await scene.until(lambda: len(scene.broker.sent) == 2)
    assert [ran.ref for ran in outcomes(scene.broker.sent[1]).ran] == [2, 3, 4]
    assert scene.acked == []
    scene.broker.answer()
    await scene.until(lambda: scene.acked == [1])
    scene.broker.answer()
    await scene.until(lambda: scene.acked == [1, 2, 3, 4])
    await scene.outcomes.drain()


@pytest.mark.parametrize("problem", [Timeout("late"), NoResponders("none"), FULL, b"no json"])
async def test_the_same_bytes_are_sent_until_they_are_stored(problem: bytes | Exception) -> None:
    scene = Scene()
    done(scene, 1)
    for tries in (1, 2, 3):
        await scene.until(lambda tries=tries: len(scene.broker.sent) == tries)
        assert scene.acked == []
        scene.broker.answer(problem)
    await scene.until(lambda: len(scene.broker.sent) == 4)
    scene.broker.answer()
    await scene.until(lambda: scene.acked == [1])
    assert len(set(scene.broker.sent)) == 1


async def test_a_message_is_acked_only_when_every_batch_that_speaks_of_it_is_stored() -> None:
    scene = Scene()
    held = scene.held(1)
    scene.outcomes.add(held, 1, item(1))
    await scene.until(lambda: len(scene.broker.sent) == 1)
    held.done = True
    scene.outcomes.add(held, 1, item(2))
    await scene.until(lambda: len(scene.broker.sent) == 2)
    first, second = scene.broker.waiting
    second.set_result(STORED)
    done(scene, 2)
    await scene.until(lambda: len(scene.broker.sent) == 3)
    assert scene.acked == []
    first.set_result(STORED)
    await scene.until(lambda: scene.acked == [1])


async def test_few_publishes_are_under_way_and_none_is_too_large() -> None:
    scene = Scene()
    for sequence in range(40):
        done(scene, sequence, size=100_000)
    await scene.until(lambda: len(scene.broker.waiting) == UNDER_WAY)
    assert all(len(data) <= BATCH_BYTES + 1000 for data in scene.broker.sent)
    told: list[int] = []
    while len(scene.acked) < 40:
        await scene.until(lambda: scene.broker.waiting)
        assert len(scene.broker.waiting) <= UNDER_WAY
        scene.broker.answer()
        await asyncio.sleep(0)
    for data in scene.broker.sent:
        told += [ran.ref for ran in outcomes(data).ran]
    assert sorted(told) == list(range(40))


async def test_a_start_rides_along_and_is_dropped_when_its_end_is_in() -> None:
    scene = Scene()
    scene.outcomes.start([Started(1, 1, 1.0), Started(2, 1, 1.0)])
    scene.outcomes.ended((1, 1))
    done(scene, 7)
    await scene.until(lambda: scene.broker.sent)
    message = outcomes(scene.broker.sent[0])
    assert [start.ref for start in message.starts] == [2]
    assert [ran.ref for ran in message.ran] == [7]


async def test_starts_alone_go_after_a_quarter_of_a_second() -> None:
    scene = Scene()
    scene.outcomes.start([Started(1, 1, 1.0)])
    await scene.until(lambda: scene.broker.sent)
    assert [start.ref for start in outcomes(scene.broker.sent[0]).starts] == [1]


async def test_a_bundle_that_ends_without_news_is_acked_at_once() -> None:
    """Everything was told before: its last frame is empty."""
    scene = Scene()
    held = scene.held(1)
    held.done = True
    scene.outcomes.add(held, 0, b"")
    assert scene.acked == [1]
    assert scene.broker.sent == []
