"""Release order, window, roll call and answers: the region's small pure parts."""

from __future__ import annotations

import pytest

from echelon.wire.api import Options
from echelon.wire.child import Input
from echelon_core.entries import Claim, Delegated, Item, More, Verdicts, WorkerInfo
from echelon_core.runs import first_run
from echelon_regional.bundle import Means
from echelon_regional.release import propose
from echelon_regional.state import Kind, NewerLeader, RegionState
from echelon_regional.takeback import Fleet, RollCall, words
from echelon_regional.window import Window, credit

LANES = {Kind("quick", "default"): "default=async", Kind("slow", "default"): "default=sync"}


def region_with(*items: Item) -> RegionState:
    state = RegionState("east")
    state.absorb(1, Delegated(1.0, "east", list(items)))
    return state


def refs_of(state: RegionState, rooms: dict[str, int], means: Means | None = None) -> list[list[int]]:
    taken = []
    for number, proposal in enumerate(propose(state, rooms, LANES, means or Means(), lambda t: None), 1):
        state.release(number, proposal.lane, proposal.refs, 0.0)
        taken.append(proposal.refs)
    return taken


def worker(name: str, started_at: float = 1.0, draining: bool = False) -> WorkerInfo:
    lanes = {"async": 100, "sync": 1}
    return WorkerInfo(
        name, "east", "default", "h", 1, started_at, lanes, {"quick": "async"}, draining=draining
    )


def test_urgent_first_then_in_order_of_admission() -> None:
    state = region_with(Item(1, "quick", b"", 5), Item(2, "quick", b"", 10), Item(3, "quick", b"", 5))
    assert refs_of(state, {"default=async": 10}) == [[2], [1], [3]]


def test_a_full_lane_holds_up_only_itself() -> None:
    state = region_with(Item(1, "slow", b"", 10), Item(2, "slow", b"", 10), Item(3, "quick", b"", 1))
    assert refs_of(state, {"default=async": 5, "default=sync": 1}) == [[1], [3]]


def test_a_type_nobody_offers_is_passed_over() -> None:
    state = region_with(Item(1, "unknown", b"", 10), Item(2, "quick", b"", 1))
    assert refs_of(state, {"default=async": 5}) == [[2]]
    assert state.room.count == 1


def test_a_bundle_holds_one_type_and_keeps_the_order_of_the_level() -> None:
    means = Means()
    means.learn("quick", 1, 0.0001)
    lanes = {**LANES, Kind("other", "default"): "default=async"}
    state = region_with(
        Item(1, "quick", b"", 5), Item(2, "quick", b"", 5), Item(3, "other", b"", 5), Item(4, "quick", b"", 5)
    )
    taken = []
    for number, proposal in enumerate(propose(state, {"default=async": 9}, lanes, means, lambda t: None), 1):
        state.release(number, proposal.lane, proposal.refs, 0.0)
        taken.append(proposal.refs)
    assert taken == [[1, 2], [3], [4]]


def test_a_payload_on_its_way_lets_nobody_overtake() -> None:
    state = region_with(Item(1, "quick", None, 5, source=1), Item(2, "quick", b"", 5))
    assert refs_of(state, {"default=async": 5}) == []


def test_errands_are_marked() -> None:
    more = More(inputs=[Input("a", 7, "east", 3)])
    state = region_with(Item(1, "quick", b"", 5, more=more), Item(2, "quick", b"", 5))
    proposals = []
    for number, proposal in enumerate(
        propose(state, {"default=async": 5}, LANES, Means(), lambda t: None), 1
    ):
        state.release(number, proposal.lane, proposal.refs, 0.0)
        proposals.append(proposal.bundle)
    assert [bundle.errands for bundle in proposals] == [True, False]


def test_the_window_opens_with_rate_and_delay_and_closes_after_two_seconds() -> None:
    window = Window()
    assert window.size(0.0, 10) == 10
    window.completed(100.0, 500)  # 5,000 a second
    assert window.size(100.05, 10) == 10 + 250
    window.delayed(100.05, 0.1)
    assert window.size(100.06, 10) == 10 + 1000
    assert window.size(103.0, 10) == 10
    assert window.size(103.0, 0) == 0


def test_credit_follows_slots_and_rate() -> None:
    assert credit(0, 1e6) == 0
    assert credit(10, 0) == 1000
    assert credit(10, 10_000) == 3000


def test_a_roll_call_judges_lost_what_was_delivered_and_is_in_no_answer() -> None:
    state = region_with(*(Item(ref, "quick", b"", 5) for ref in (1, 2, 3)))
    for sequence, ref in ((11, 1), (12, 2), (13, 3)):
        state.release(sequence, "default=async", [ref], 0.0)
    call = RollCall(5, {"default=async": 12}, released_upto=13)
    call.answer(Claim("w1", [11], call=4))
    assert call.missing(["w1"]) == ["w1"], "an answer to another number is none"
    call.answer(Claim("w1", [11], call=5))
    assert call.missing(["w1"]) == []
    assert call.lost(state) == [(2, first_run(1))], "13 was not delivered when the call began"


def test_a_question_is_answered_only_from_what_is_durable() -> None:
    state = region_with(Item(1, "quick", b"", 5))
    run = first_run(1)
    state.release(11, "default=async", [1], 0.0)
    fleet = Fleet()
    fleet.present(worker("w1"))
    fleet.present(worker("w2"))
    assert words(state, fleet, {1}, "w1", 11, [(1, run)]) == ("wait", [])
    fleet.claimed(Claim("w2", [11]))
    assert words(state, fleet, (), "w1", 11, [(1, run)]) == ("wait", []), "another living worker holds it"
    fleet.gone("w2")
    assert words(state, fleet, (), "w1", 11, [(1, run)]) == ("yours", [(1, run)])
    state.apply(1, Verdicts(1, 1, 1.0, [(1, [1])]))
    assert words(state, fleet, (), "w1", 11, [(1, run)]) == ("over", [])


def test_another_process_under_a_name_holds_nothing_of_the_former() -> None:
    fleet = Fleet()
    assert fleet.present(worker("w1"))
    fleet.claimed(Claim("w1", [11]))
    assert not fleet.present(worker("w1"))
    assert fleet.holders == {11: "w1"}
    assert fleet.present(worker("w1", started_at=2.0))
    assert fleet.holders == {}


def test_a_draining_worker_offers_nothing() -> None:
    fleet = Fleet()
    fleet.present(worker("w1", draining=True))
    assert fleet.lanes() == {} and fleet.slots() == {}


def test_a_leftover_of_a_newer_leader_is_no_leftover() -> None:
    state = region_with(Item(1, "quick", b"", 5))
    run = first_run(1)
    with pytest.raises(NewerLeader):
        state.adopt(11, "default=async", [(1, run + 1)])
    with pytest.raises(NewerLeader):
        state.adopt(11, "default=async", [(9, first_run(2))])
    assert not state.adopt(11, "default=async", [(9, run)]), "its delegation was read, and it lives no more"
    assert state.adopt(12, "default=async", [(1, run)])
    assert state.room.count == 0


def test_what_a_worker_reported_is_left_for_its_ack_and_the_rest_is_deleted() -> None:
    state = region_with(Item(1, "quick", b"", 5, options=Options()), Item(2, "quick", b"", 5))
    state.release(11, "default=async", [1, 2], 0.0)
    state.apply(1, Verdicts(1, 1, 1.0, [(1, [1, 2])]))
    assert state.take_leftovers() == [] and not state.released
