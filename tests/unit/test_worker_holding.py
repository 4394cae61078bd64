"""Messages in hand: copies, claims, +WPI, answers; with a bus that only writes down what is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from echelon.wire.child import Bundle, Run, bundle, encode_bundle
from echelon_core import names
from echelon_core.entries import RollCall, Verdict, claim, encode, question
from echelon_infra.jetstream.connection import Bus, Message
from echelon_infra.jetstream.errors import NoResponders, Timeout
from echelon_infra.jetstream.puller import Delivery
from echelon_worker.chores import Chores
from echelon_worker.claims import WORKING_S, Claims
from echelon_worker.doubts import Doubts, narrow
from echelon_worker.held import Held
from echelon_worker.pull import Intake
from support.eventually import eventually

Answer = Callable[[bytes], bytes | Exception]


class Wire:
    def __init__(self) -> None:
        self.connected_at = 100.0
        self.is_connected = True
        self.on_reconnect: list[Callable[[], None]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.handlers: dict[str, Callable[[Message], None]] = {}
        self.answer: Answer = lambda data: Timeout("nobody")
        self.asked: list[bytes] = []

    def send(self, subject: str, data: bytes = b"", *, headers: Mapping[str, str] | None = None) -> None:
        self.sent.append((subject, data))

    async def subscribe(self, subject: str, handler: Callable[[Message], None]) -> None:
        self.handlers[subject] = handler

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        self.asked.append(data)
        await asyncio.sleep(0)
        said = self.answer(data)
        if isinstance(said, Exception):
            raise said
        return said


class Scene:
    def __init__(self) -> None:
        self.wire = Wire()
        self.ran: list[Held] = []
        bus = cast(Bus, self.wire)
        self.intake = Intake(bus, "east", "default")
        self.gone: list[str] = []
        self.intake.fresh = self.ran.append
        self.intake.gone = self.gone.append
        self.doubts = Doubts(bus, "east", "w1", self.intake, Chores(), self.ran.append)
        self.claims = Claims(bus, "east", "w1", self.intake, self.doubts)

    def come(
        self, sequence: int, *runs: int, count: int = 1, stored_at: float = 200.0, reply: str = ""
    ) -> None:
        data = encode_bundle(Bundle(False, [Run(ref, 1, "t", b"", 1, 1) for ref in runs or (sequence,)]))
        self.intake._receive(
            "async", Delivery(sequence, count, stored_at, "s", data, reply or f"r{sequence}")
        )

    def claimed(self) -> list[list[int]]:
        return [claim(data).sequences for subject, data in self.wire.sent if subject == names.claims("east")]

    def acks(self, word: bytes = b"+ACK") -> list[str]:
        return [subject for subject, data in self.wire.sent if data == word]


async def test_a_copy_of_what_is_held_is_ignored_and_its_reply_is_the_one_that_counts() -> None:
    scene = Scene()
    scene.come(1)
    scene.come(1, reply="again")
    assert len(scene.ran) == 1
    scene.intake.over(scene.ran)
    assert scene.acks() == ["again"]


async def test_a_copy_of_what_is_finished_is_acked_and_not_run() -> None:
    scene = Scene()
    scene.come(1)
    scene.intake.over(scene.ran)
    scene.come(1, reply="again")
    assert len(scene.ran) == 1
    assert scene.acks() == ["r1", "again"]
    assert scene.gone == ["async"]
    assert scene.intake.runs == {"async": 0}


async def test_a_number_used_again_for_other_content_is_another_message_and_the_old_is_never_acked() -> None:
    scene = Scene()
    scene.come(1, 10)
    scene.come(1, 20)
    old, new = scene.ran
    scene.intake.over([old])
    assert scene.acks() == []
    assert list(scene.intake.held.values()) == [new]
    scene.intake.over([new])
    assert scene.acks() == ["r1"]


@pytest.mark.parametrize("how", [{"count": 2}, {"stored_at": 99.0}, {"stored_at": 100.1}])
async def test_what_is_doubtful_is_asked_about_together(how: dict[str, Any]) -> None:
    scene = Scene()
    scene.wire.answer = lambda data: encode(Verdict(["over", "wait", "yours"], [[], [], [(31, 1)]]))
    scene.come(1, **how)
    scene.come(2, **how)
    scene.come(3, 30, 31, 32, **how)
    assert scene.ran == []
    await eventually(lambda: scene.ran)
    [asked] = scene.wire.asked
    assert question(asked).messages == [(1, [(1, 1)]), (2, [(2, 1)]), (3, [(30, 1), (31, 1), (32, 1)])]
    assert scene.acks() == ["r1"]
    assert list(scene.intake.held) == [3]
    [held] = scene.ran
    assert [run.ref for run in bundle(held.data).runs] == [31]
    assert held.runs == scene.intake.runs["async"] == 1
    assert scene.gone == ["async"] * 2
    scene.wire.answer = lambda data: encode(Verdict(["over"], [[]]))
    scene.come(2, count=3)  # it was dropped, so it is news
    await eventually(lambda: len(scene.wire.asked) == 2)


async def test_what_arrives_while_this_process_stood_still_is_doubtful() -> None:
    """It was delivered in time, but the region may have given it to another since."""
    scene = Scene()
    scene.wire.answer = lambda data: encode(Verdict(["over"], [[]]))
    scene.intake.awake_at = time.monotonic() - 3.0
    scene.come(1)
    await eventually(lambda: scene.acks() == ["r1"])
    scene.intake.awake_at = time.monotonic()
    scene.come(2)
    assert [held.sequence for held in scene.ran] == [2]


async def test_without_an_answer_it_runs_after_half_a_second() -> None:
    for silence in (Timeout("late"), NoResponders("nobody")):
        scene = Scene()
        scene.wire.answer = lambda data, silence=silence: silence  # type: ignore[misc]
        at = time.monotonic()
        scene.come(1, count=2)
        await eventually(lambda scene=scene: scene.ran)
        if isinstance(silence, NoResponders):
            assert time.monotonic() - at >= 0.5
            assert len(scene.wire.asked) > 3


async def test_a_question_that_a_lost_connection_cut_off_is_asked_again_before_anything_runs() -> None:
    """Silence means that no leader is there; but nobody is there to hear while the server restarts."""
    scene = Scene()
    scene.wire.is_connected = False

    def answer(data: bytes) -> bytes | Exception:
        if len(scene.wire.asked) == 1:
            return Timeout("the connection was lost")
        scene.wire.is_connected = True
        return encode(Verdict(["over"], [[]]))

    scene.wire.answer = answer
    scene.come(1, count=2)
    await eventually(lambda: scene.acks() == ["r1"])
    assert not scene.ran and len(scene.wire.asked) == 2


async def test_claims_name_what_is_still_held_and_not_in_question() -> None:
    scene = Scene()
    for sequence in (1, 2):
        scene.come(sequence)
    scene.come(3, count=2)
    scene.wire.answer = lambda data: Timeout("late")
    scene.intake.over([scene.ran[0]])
    scene.claims._claim()
    assert scene.claimed() == [[2]]
    await eventually(lambda: len(scene.ran) == 3)


async def test_nothing_is_claimed_when_all_ended_within_the_ten_milliseconds() -> None:
    scene = Scene()
    scene.come(1)
    scene.intake.over(scene.ran)
    scene.claims._claim()
    assert scene.claimed() == []


async def test_a_roll_call_and_a_reconnect_get_the_whole_list() -> None:
    scene = Scene()
    await scene.claims.start()
    scene.come(1)
    scene.come(2, count=2)
    scene.wire.handlers[names.roll_call("east")](Message("s", encode(RollCall(77, 1))))
    answer = claim(scene.wire.sent[-1][1])
    assert (answer.sequences, answer.questioned, answer.call) == ([1], [2], 77)
    scene.intake.held.clear()
    scene.doubts.open.clear()
    for tell in scene.wire.on_reconnect:
        tell()
    assert claim(scene.wire.sent[-1][1]).sequences == []  # the region waits for everyone's word


async def test_the_broker_is_told_once_in_a_third_of_the_ack_deadline() -> None:
    scene = Scene()
    scene.come(1)
    now = time.monotonic()
    for later in (1.0, WORKING_S + 0.1, WORKING_S + 1.0):
        scene.claims.keep_alive(now + later)
    assert scene.acks(b"+WPI") == ["r1"]
    scene.claims.keep_alive(now + 2 * WORKING_S + 0.2)
    assert scene.acks(b"+WPI") == ["r1", "r1"]


def test_a_bundle_is_narrowed_to_the_runs_that_are_open() -> None:
    data = encode_bundle(Bundle(True, [Run(ref, 1, "t", b"", 1, 1) for ref in (1, 2, 3)]))
    held = Held(1, "async", data, "r", 0.0)
    assert narrow(held, {(1, 1), (2, 1), (3, 1)}) == 0
    assert held.data is data
    assert narrow(held, {(2, 1)}) == 2
    assert [run.ref for run in bundle(held.data).runs] == [2]
    assert bundle(held.data).errands
