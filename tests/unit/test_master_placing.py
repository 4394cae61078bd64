"""Who goes where, and in what order."""

from __future__ import annotations

import pytest

from echelon.wire.api import Options, Submission
from echelon_core.entries import Delegated, Room
from echelon_core.queue import WaitingRoom
from echelon_master.decide import Inputs
from support.master_hand import Hand, placed


def task(task_type: str = "quick", priority: int = 5, payload: bytes = b"", **options: object) -> Submission:
    chosen = Options(**options) if options else None  # type: ignore[arg-type]
    return Submission(task_type, payload, priority=priority, options=chosen)


def test_urgent_ones_first_and_of_equals_the_first_come() -> None:
    hand = Hand()
    refs = hand.admit(*(task("slow" if n % 3 else "quick", p) for n, p in enumerate([1, 5, 10, 5, 1, 10])))
    order = [ref for _, ref in placed(hand.rooms(east=10))]
    assert order == [refs[n] for n in (2, 5, 1, 3, 0, 4)]


def test_a_type_that_nobody_offers_holds_nobody_up() -> None:
    hand = Hand()
    odd, *rest = hand.admit(task("odd", 10), task(), task("slow"))
    assert [ref for _, ref in placed(hand.rooms(east=10))] == rest
    room = Room("east", 1, 10, {"odd": "async"}, 1, 1)
    assert placed(hand.only(hand.turn(Inputs(rooms={"east": room})), Delegated)) == [("east", odd)]


def test_only_as_many_as_the_region_has_credit_for() -> None:
    hand = Hand()
    refs = hand.admit(*[task()] * 10)
    assert placed(hand.rooms(east=3)) == [("east", ref) for ref in refs[:3]]
    assert not hand.rooms(east=3)
    hand.verdicts("east", refs[:2])
    assert hand.state.region("east").out == 3 and len(hand.only(hand.ledger, Delegated)) == 2


def test_a_burst_is_shared_in_the_ratio_of_the_credits() -> None:
    hand = Hand()
    hand.admit(*[task()] * 600)
    found = [region for region, _ in placed(hand.rooms(east=1000, west=500))]
    assert found.count("east") == pytest.approx(400, abs=32) and found.count("west") >= 168


def test_single_tasks_go_round() -> None:
    hand = Hand()
    hand.rooms(east=100, west=100)
    went = []
    for _ in range(4):
        (ref,) = hand.admit(task())
        ((region, _),) = placed([hand.ledger[-1]])
        went.append(region)
        hand.verdicts(region, [ref])
    assert sorted(went) == ["east", "east", "west", "west"]


def test_a_named_region_is_kept_to() -> None:
    hand = Hand()
    refs = hand.admit(*(task(region=region) for region in ("west", "north", "east")), task())
    went = dict((ref, region) for region, ref in placed(hand.rooms(east=1, west=9)))
    assert went == {refs[0]: "west", refs[2]: "east", refs[3]: "west"}
    assert hand.state.room.count == 1


def test_a_pool_is_offered_by_its_name() -> None:
    hand = Hand()
    (ref,) = hand.admit(task(pool="gpu"))
    assert not hand.rooms(east=9)
    room = Room("east", 1, 9, {"gpu=quick": "async"}, 1, 1)
    assert placed(hand.only(hand.turn(Inputs(rooms={"east": room})), Delegated)) == [("east", ref)]


def test_a_report_that_is_stale_gets_nothing() -> None:
    hand = Hand()
    hand.rooms(east=10)
    hand.turn(after_s=4)
    hand.admit(task())
    assert not hand.only(hand.ledger, Delegated)
    assert hand.rooms(east=10)


def test_a_deposed_leader_of_a_region_is_not_listened_to() -> None:
    hand = Hand()
    hand.rooms(east=0)
    newer = Room("east", 2, 0, {"quick": "async"}, 1, 1)
    hand.turn(Inputs(rooms={"east": newer}))
    hand.admit(task())
    assert not hand.rooms(east=10)


def test_admission_and_delegation_go_out_in_one_turn() -> None:
    hand = Hand()
    hand.rooms(east=10)
    hand.admit(task())
    assert [type(entry).__name__ for entry in hand.ledger] == ["Admitted", "Delegated"]


def test_entries_are_cut_by_number_and_by_size() -> None:
    hand = Hand(cache_bytes=1 << 24)
    hand.admit(*[task(payload=b'"' + b"x" * 4000 + b'"')] * 300)
    sizes = [sum(len(item.payload or b"") for item in entry.items) for entry in hand.rooms(east=5000)]
    assert len(sizes) == 3 and max(sizes) < 512 * 1024
    for _ in range(3):
        hand.admit(*[task()] * 1000)
    counts = [len(entry.items) for entry in hand.only(hand.ledger, Delegated)[3:]]
    assert max(counts) <= 1000 and sum(counts) == 3000


def test_levels_below_take_what_the_upper_ones_cannot() -> None:
    hand = Hand()
    refs = hand.admit(*[task("odd", 10)] * 3, *[task("quick", 1)] * 3)
    assert [ref for _, ref in placed(hand.rooms(east=2))] == refs[3:5]


def test_a_line_of_which_most_have_left_is_swept() -> None:
    """Memory is bounded by those who wait, also behind one who waits for ever."""
    there = dict.fromkeys(range(1, 2001), True)
    room: WaitingRoom[str] = WaitingRoom(lambda level, ref, kind: there.get(ref, False))
    room.extend(5, "a", range(1, 2001))
    for ref in range(2, 2001):
        there[ref] = False
        room.left(5, "a")
    assert room.peek(5, "a", 10) == [1] and room.count == 1
    line = room._levels[5]["a"]
    assert len(line.line) < 200


def test_the_first_of_many_lines_are_merged_in_order() -> None:
    room: WaitingRoom[int] = WaitingRoom(lambda level, ref, kind: True)
    for kind in range(12):
        room.extend(5, kind, range(kind + 1, 1200, 12))
    assert room.first(5, lambda kind: True, 50) == list(range(1, 51))
    assert room.first(5, lambda kind: kind in (0, 2), 5) == [1, 3, 13, 15, 25]
    assert room.waits_at(5) and not room.waits_at(6)
