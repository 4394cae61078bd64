"""Waiting for ends: notices are hints, what is asked is asked for all, an outcome message is read once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from echelon import NotFound, ends
from echelon.ends import Ended, Ends
from echelon.wire.api import Ask, End, Notice, Where, ask_request
from echelon.wire.child import ERROR, OK, Error, Outcomes, Ran
from echelon.wire.codec import pack
from support.eventually import eventually


class Lost(Exception):
    pass


class World:
    """A reader, a stream of outcomes, and how often they were asked."""

    def __init__(self) -> None:
        self.ended: dict[int, tuple[str, int] | End] = {}
        self.messages: dict[tuple[str, int], bytes] = {}
        self.asked: list[Ask] = []
        self.read: list[tuple[str, int]] = []
        self.deaf = False
        self.ends = Ends(self.ask, self.outcome, Lost)

    async def ask(self, data: bytes) -> bytes:
        self.asked.append(ask_request(data))
        if self.deaf:
            raise Lost
        return pack(self.notice(self.asked[-1].refs))

    def notice(self, refs: list[int]) -> Notice:
        known = {ref: self.ended[ref] for ref in refs if ref in self.ended}
        places: dict[tuple[str, int], list[int]] = {}
        for ref, place in known.items():
            if not isinstance(place, End):
                places.setdefault(place, []).append(ref)
        return Notice(
            [Where(*place, found) for place, found in places.items()],
            [end for end in known.values() if isinstance(end, End)],
        )

    async def outcome(self, region: str, sequence: int) -> bytes | None:
        self.read.append((region, sequence))
        await asyncio.sleep(0)
        if self.deaf:
            raise Lost
        return self.messages.get((region, sequence))

    def finish(self, refs: list[int], sequence: int) -> None:
        ran = [Ran(ref, 1, OK, b"%d" % ref, 1.0, 2.0) for ref in refs]
        self.messages["east", sequence] = pack(Outcomes("w", ran))
        self.ended.update(dict.fromkeys(refs, ("east", sequence)))

    def tell(self, refs: list[int]) -> None:
        self.ends.on_notice(pack(self.notice(refs)))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.ends.close()


def result_of(ended: Ended) -> bytes:
    assert ended.ran is not None
    assert ended.end is None
    return ended.ran.result


async def test_a_notice_is_enough_for_who_submitted_and_a_message_is_read_once(world: World) -> None:
    refs = list(range(1000, 4000))
    waiting = [world.ends.wait(ref, world.ends.era) for ref in refs]
    for n in range(0, 3000, 500):
        world.finish(refs[n : n + 500], n + 1)
    world.tell(refs)
    ended = await asyncio.gather(*waiting)
    assert [int(result_of(end)) for end in ended] == refs
    assert world.asked == []
    assert len(world.read) == 6
    late = await world.ends.wait(1000, world.ends.era)
    assert (result_of(late), len(world.read)) == (b"1000", 6)


async def test_a_notice_that_came_before_anybody_waited_is_remembered(world: World) -> None:
    world.finish([7], 1)
    world.tell([7])
    assert result_of(await world.ends.wait(7, 0)) == b"7"
    assert world.asked == []


async def test_who_may_have_missed_the_notice_asks_together_with_others(world: World) -> None:
    refs = list(range(100))
    world.finish(refs, 1)
    ended = await asyncio.gather(*(world.ends.wait(ref, -1) for ref in refs))
    assert len(ended) == 100
    assert [sorted(ask.refs) for ask in world.asked] == [refs]


async def test_lost_notices_are_made_good_by_asking(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "ASK_S", 0.05)
    waiting = [world.ends.wait(ref, 0) for ref in (1, 2)]
    world.deaf = True
    world.finish([1], 1)
    await eventually(lambda: len(world.asked) >= 2)
    world.deaf = False
    assert result_of(await waiting[0]) == b"1"
    world.ended[2] = End(2, "failed", "error")
    assert (await waiting[1]).end == End(2, "failed", "error")
    asked = len(world.asked)
    await asyncio.sleep(0.12)
    assert len(world.asked) == asked  # nobody waits: nobody asks


async def test_after_a_reconnect_everything_is_asked_again(world: World) -> None:
    waiting = [world.ends.wait(ref, world.ends.era) for ref in (1, 2)]
    world.finish([1, 2], 1)
    world.ends.again()
    assert [result_of(end) for end in await asyncio.gather(*waiting)] == [b"1", b"2"]
    assert [ask.refs for ask in world.asked] == [[1, 2]]
    world.finish([3], 2)
    assert result_of(await world.ends.wait(3, 0)) == b"3"  # submitted in an earlier era: it asks


async def test_a_failure_brings_its_last_run(world: World) -> None:
    error = Error("ValueError", "told")
    ran = Ran(5, 9, ERROR, b"", 1.0, 2.0, error)
    world.messages["east", 3] = pack(Outcomes("w", [Ran(5, 8, ERROR, b"", 0.0, 1.0, Error("Old", "")), ran]))
    world.ended[5] = End(5, "failed", "error", "", "east", 3)
    ended = await world.ends.wait(5, -1)
    assert (ended.ran, ended.end and ended.end.cause) == (ran, "error")


async def test_of_two_reports_the_success_counts(world: World) -> None:
    late = Ran(5, 9, ERROR, b"", 1.0, 2.0, Error("Late", ""))
    world.messages["east", 3] = pack(Outcomes("w", [Ran(5, 8, OK, b"1", 0.0, 1.0), late]))
    world.ended[5] = ("east", 3)
    assert result_of(await world.ends.wait(5, -1)) == b"1"


async def test_an_outcome_may_be_on_its_way_to_the_replica(world: World) -> None:
    world.finish([1], 1)
    message = world.messages.pop(("east", 1))
    waiting = asyncio.ensure_future(world.ends.wait(1, -1))
    await eventually(lambda: len(world.read) >= 2)
    world.messages["east", 1] = message
    assert result_of(await waiting) == b"1"


async def test_an_outcome_that_is_gone_is_an_error_not_a_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_MISSING_S", (0.0, 0.0))
    world.ended[1] = ("east", 9)
    world.ended[2] = End(2, "failed", "error", "", "east", 8)
    with pytest.raises(NotFound, match="result of task"):
        await world.ends.wait(1, -1)
    assert (await world.ends.wait(2, -1)).ran is None


async def test_who_stops_waiting_leaves_nothing_behind(world: World) -> None:
    waiting = [world.ends.wait(1, 0) for _ in range(3)]
    for future in waiting[:2]:
        future.cancel()
    await asyncio.sleep(0)
    world.finish([1], 1)
    world.tell([1])
    assert result_of(await waiting[2]) == b"1"
    assert world.ends._waiting == {}


async def test_memory_of_notices_is_bounded_and_the_forgotten_are_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "RECENT", 10)
    era = world.ends.era
    refs = list(range(30))
    world.finish(refs, 1)
    for ref in refs:
        world.tell([ref])
    assert len(world.ends._recent) <= 10
    assert result_of(await world.ends.wait(0, era)) == b"0"
    assert len(world.asked) == 1
    assert result_of(await world.ends.wait(29, era)) == b"29"
    assert len(world.asked) == 1
