"""The waiting room against a sorted list that is obviously right."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from echelon_core.queue import LEVELS, WaitingRoom

Place = tuple[int, str]  # level, class
levels, kinds = st.integers(1, 10), st.sampled_from("abc")


class Waiting(RuleBasedStateMachine):
    """`truth` is who waits where; `gone` has left and may come back."""

    def __init__(self) -> None:
        super().__init__()
        self.truth: dict[int, Place] = {}
        self.gone: dict[int, Place] = {}
        self.next_ref = 1
        self.room: WaitingRoom[str] = WaitingRoom(
            lambda level, ref, kind: self.truth.get(ref) == (level, kind)
        )

    def waits(self, level: int, ref: int, kind: str) -> bool:
        return self.truth.get(ref) == (level, kind)

    def expected(self, level: int, kind: str) -> list[int]:
        return sorted(ref for ref, place in self.truth.items() if place == (level, kind))

    @rule(level=levels, kind=kinds, number=st.integers(1, 5))
    def arrive(self, level: int, kind: str, number: int) -> None:
        for _ in range(number):
            self.truth[self.next_ref] = (level, kind)
            self.room.push(level, kind, self.next_ref)
            self.next_ref += 1

    @rule(level=levels, kind=kinds, number=st.integers(2, 9))
    def arrive_together(self, level: int, kind: str, number: int) -> None:
        refs = range(self.next_ref, self.next_ref + number)
        self.truth.update(dict.fromkeys(refs, (level, kind)))
        self.room.extend(level, kind, refs)
        self.next_ref += number

    @precondition(lambda self: self.gone)
    @rule(level=levels, kind=kinds)
    def all_come_back_together(self, level: int, kind: str) -> None:
        self.truth.update(dict.fromkeys(self.gone, (level, kind)))
        self.room.extend(level, kind, sorted(self.gone))
        self.gone = {}

    @rule(level=levels, kind=kinds, number=st.integers(1, 4))
    def take_the_first(self, level: int, kind: str, number: int) -> None:
        taken = self.room.peek(level, kind, number)
        assert taken == self.expected(level, kind)[:number]
        for ref in taken:
            self.gone[ref] = self.truth.pop(ref)
        if taken:
            self.room.left(level, kind, len(taken))

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def leave_from_anywhere(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.truth)))
        place = self.gone[ref] = self.truth.pop(ref)
        self.room.left(*place)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), level=levels)
    def come_back(self, data: st.DataObject, level: int) -> None:
        ref = data.draw(st.sampled_from(sorted(self.gone)))
        before, kind = self.gone.pop(ref)
        level = data.draw(st.sampled_from([before, level]))
        self.truth[ref] = (level, kind)
        self.room.push(level, kind, ref)

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), level=levels)
    def change_level(self, data: st.DataObject, level: int) -> None:
        ref = data.draw(st.sampled_from(sorted(self.truth)))
        before, kind = self.truth[ref]
        if before == level:
            return
        self.truth[ref] = (level, kind)
        self.room.left(before, kind)
        self.room.push(level, kind, ref)

    @rule(level=levels, wanted=st.sets(kinds), limit=st.integers(0, 6))
    def look_over_classes(self, level: int, wanted: set[str], limit: int) -> None:
        among = sorted(
            (ref, kind) for ref, (at, kind) in self.truth.items() if at == level and kind in wanted
        )
        assert self.room.peek_level(level, wanted.__contains__, limit) == among[:limit]

    @invariant()
    def everyone_is_seen_once_in_order(self) -> None:
        everyone = len(self.truth) + 1
        for level in LEVELS:
            for kind in "abc":
                assert self.room.peek(level, kind, everyone) == self.expected(level, kind)
        assert self.room.count == len(self.truth)

    @invariant()
    def nobody_who_waits_is_in_an_unlisted_class(self) -> None:
        listed = list(self.room.kinds())
        assert set(self.truth.values()) <= set(listed)
        assert [level for level, _ in listed] == sorted((level for level, _ in listed), reverse=True)


Waiting.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestWaiting = Waiting.TestCase


@given(st.lists(st.tuples(levels, kinds), max_size=60))
def test_an_empty_room_keeps_nothing(places: list[Place]) -> None:
    """Memory is bounded by those who wait, not by those who ever did."""
    truth: dict[int, Place] = dict(enumerate(places))
    room: WaitingRoom[str] = WaitingRoom(lambda level, ref, kind: truth.get(ref) == (level, kind))
    for ref, (level, kind) in truth.items():
        room.push(level, kind, ref)
    for ref in sorted(truth, reverse=True):
        room.left(*truth.pop(ref))
    assert room.count == 0 and not list(room.kinds())


@given(st.sets(st.integers(0, 299), min_size=1), st.randoms(use_true_random=False))
def test_a_line_of_which_most_have_left_is_swept_and_nobody_with_it(stay: set[int], chance: Random) -> None:
    truth: dict[int, Place] = dict.fromkeys(range(300), (5, "a"))
    room: WaitingRoom[str] = WaitingRoom(lambda level, ref, kind: truth.get(ref) == (level, kind))
    room.extend(5, "a", range(300))
    leaving = sorted(set(truth) - stay)
    chance.shuffle(leaving)
    for ref in leaving:
        del truth[ref]
        room.left(5, "a")
    assert room.peek(5, "a", 300) == sorted(stay) and room.count == len(stay)


def drain_in_order(places: Mapping[int, Place]) -> list[int]:
    truth = dict(places)
    room: WaitingRoom[str] = WaitingRoom(lambda level, ref, kind: truth.get(ref) == (level, kind))
    for ref, (level, kind) in truth.items():
        room.push(level, kind, ref)
    order = []
    while truth:
        level = next(iter(room.kinds()))[0]
        ref, kind = room.peek_level(level, lambda _: True, 1)[0]
        order.append(ref)
        del truth[ref]
        room.left(level, kind)
    return order


@given(st.lists(st.tuples(levels, kinds), max_size=40))
def test_they_leave_by_level_and_then_as_they_came(places: list[Place]) -> None:
    waiting = dict(enumerate(places))
    assert drain_in_order(waiting) == sorted(waiting, key=lambda ref: (-waiting[ref][0], ref))
