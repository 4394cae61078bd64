"""Whose word about a task counts; what is taken back; what people want of tasks."""

from __future__ import annotations

from typing import Any

from echelon.wire.api import Act, Done, Group, Options, Refusal, Submission, Submit
from echelon.wire.names import id_of
from echelon_core.entries import (
    Again,
    Cancel,
    Delegated,
    Ended,
    Redriven,
    Returned,
    Settled,
    Verdicts,
    Withdrawn,
)
from echelon_master.admit import SubmitRequest
from echelon_master.control import ActRequest
from echelon_master.decide import Inputs, Master, Policy
from support.master_hand import Hand, placed


def quick(task_id: str = "", *dependencies: str) -> Submission:
    return Submission("quick", b"{}", task_id, dependencies=dependencies)


def out(hand: Hand, *tasks: Submission) -> list[int]:
    """Admitted and delegated to east."""
    refs = hand.admit(*tasks or [quick()])
    hand.rooms(east=100)
    return refs


def again(ref: int, charged: int, losses: int = 0) -> Again:
    return Again(ref, 1, "error", 0.0, charged, losses)


# ---------------------------------------------------------------------- whose word counts
def test_a_region_speaks_only_of_what_it_has() -> None:
    hand = Hand()
    (ref,) = out(hand)
    assert not hand.verdicts("west", [ref])
    assert not hand.verdicts("east", [ref], ledger=len(hand.ledger) - 1), "it had not read the delegation yet"
    assert hand.only(hand.verdicts("east", [ref]), Settled)[0].ok[0].refs == [ref]
    assert not hand.verdicts("east", [ref]), "it has ended"


def test_what_a_region_says_after_it_was_withdrawn_changes_nothing() -> None:
    hand = Hand(Policy(region_grace_s=5.0))
    (ref,) = out(hand)
    written = hand.turn(after_s=6)
    assert hand.only(written, Withdrawn)[0].tasks == [(ref, 2)]
    hand.rooms(west=10)
    assert not hand.verdicts("east", [ref], ledger=2)
    assert not hand.verdicts("east", [ref]), "though it has read that the task is another's now"
    assert hand.only(hand.verdicts("west", [ref]), Settled)


def test_a_withdrawn_task_placed_in_the_same_region_is_of_a_new_delegation() -> None:
    hand = Hand(Policy(region_grace_s=5.0))
    (ref,) = out(hand)
    hand.turn(after_s=6)
    hand.rooms(east=10)
    assert not hand.verdicts("east", [ref], ledger=2)
    assert hand.only(hand.verdicts("east", [ref]), Settled)


def test_one_entry_settles_all_that_a_turn_brought_of_a_region() -> None:
    hand = Hand()
    a, b, c = out(hand, quick(), quick(), quick())
    east = [
        (1, _verdicts(hand, [a], again=[again(b, 1), again(c, 1)])),
        (2, _verdicts(hand, [b], again=[again(c, 2)])),
        (3, _verdicts(hand, [])),
    ]
    (settled,) = hand.turn(Inputs(logs={"east": east}))
    assert [where.refs for where in settled.ok] == [[a], [b]] and settled.position == 3
    assert [(moved.ref, moved.charged) for moved in settled.moved] == [(c, 2)]
    assert not hand.turn(Inputs(logs={"east": east})), "read again after a reconnect"


def _verdicts(hand: Hand, ok: list[int], **more: Any) -> Any:
    return Verdicts(len(hand.ledger), 1, hand.now, [(9, ok)] if ok else [], **more)


def test_after_returned_nothing_of_that_delegation_counts_in_the_same_read_either() -> None:
    hand = Hand()
    (ref,) = out(hand)
    east = [
        (1, _verdicts(hand, [], returned=[Returned(ref, 1, 0)])),
        (2, _verdicts(hand, [ref], again=[again(ref, 3)])),
    ]
    (settled, *_) = hand.turn(Inputs(logs={"east": east}))
    assert not settled.ok and [(m.charged, m.returned) for m in settled.moved] == [(1, True)]
    assert settled.position == 2 and hand.state.live == 1


def test_a_handed_back_run_is_no_news() -> None:
    hand = Hand()
    (ref,) = out(hand)
    assert not hand.verdicts("east", again=[Again(ref, 1, "handed_back", 0.0, 0, 0)])


def test_charges_go_with_the_task_to_the_next_region() -> None:
    hand = Hand(Policy(region_grace_s=5.0))
    (ref,) = out(hand)
    hand.verdicts("east", again=[again(ref, 2, 1)])
    hand.turn(after_s=6)
    (entry,) = hand.rooms(west=10)
    assert (entry.items[0].charged, entry.items[0].losses) == (2, 1)


def test_how_a_region_ends_a_task_is_how_it_ended() -> None:
    hand = Hand()
    refs = out(hand, *[quick()] * 4)
    ends = [
        Ended(ref, 1, kind, cause, 5, 1, 0)
        for ref, kind, cause in zip(
            refs,
            ("dead", "poison", "cancelled", "expired"),
            ("timeout", "lost", "cancelled", ""),
            strict=True,
        )
    ]
    (settled,) = hand.verdicts("east", ended=ends)
    assert [(end.kind, end.cause, end.region, end.sequence) for end in settled.ended] == [
        ("failed", "timeout", "east", 5),
        ("failed", "poison", "east", 5),
        ("cancelled", "cancelled", "east", 5),
        ("expired", "expired", "east", 5),
    ]


# ---------------------------------------------------------------------- taken back
def test_a_returned_task_is_withdrawn_before_it_is_placed_again() -> None:
    hand = Hand()
    (ref,) = out(hand)
    hand.rooms(east=0, west=10)
    written = hand.verdicts("east", returned=[Returned(ref, 1, 0)])
    assert [type(entry).__name__ for entry in written] == ["Settled", "Withdrawn", "Delegated"]
    assert placed(hand.only(written, Delegated)) == [("west", ref)]


def test_a_region_with_a_lease_is_not_lost_however_silent() -> None:
    hand = Hand(Policy(region_grace_s=5.0))
    out(hand)
    hand.turn(Inputs(leases={"east": True}))
    for _ in range(5):
        assert not hand.turn(after_s=4)
    hand.turn(Inputs(leases={"east": False}))
    assert not hand.turn(after_s=4)
    assert hand.only(hand.turn(after_s=2), Withdrawn)


def test_a_new_leader_gives_every_region_its_grace() -> None:
    hand = Hand(Policy(region_grace_s=5.0))
    out(hand)
    policy = Policy(region_grace_s=5.0)
    hand.fold = Master(hand.state, hand.ended, hand.told, policy, hand.now + 100)
    assert not hand.turn(after_s=104)
    assert hand.turn(after_s=2)


def test_a_task_that_has_used_up_its_runs_is_not_placed_again() -> None:
    hand = Hand()
    (ref,) = out(hand, Submission("quick", b"", options=Options(retries=1)))
    written = hand.verdicts("east", returned=[Returned(ref, 2, 0)])
    assert [type(entry).__name__ for entry in written] == ["Settled", "Withdrawn", "Settled"]
    assert (written[2].ended[0].kind, written[2].ended[0].cause) == ("failed", "lost")


# ---------------------------------------------------------------------- cancel
def test_what_no_region_has_is_cancelled_at_once_and_so_are_its_dependants() -> None:
    hand = Hand()
    first, second, third = hand.admit(quick("a"), quick("b", "a"), quick("c", "b"), inbox="inbox")
    assert hand.cancel("a") == [Done(first, "cancelled")]
    assert hand.state.live == 0
    told = [(end.ref, end.cause, end.detail) for _, notice in hand.notices for end in notice.ended]
    assert told == [
        (first, "cancelled", ""),
        (second, "dependency_cancelled", "a"),
        (third, "dependency_cancelled", "b"),
    ]


def test_a_cancel_is_asked_once_and_kept_until_the_task_has_ended() -> None:
    hand = Hand()
    (ref,) = out(hand, quick("a"))
    assert hand.cancel("a", id_of(ref)) == [Done(ref, "delegated")] * 2
    assert hand.cancel("a") == [Done(ref, "delegated")]
    (cancel,) = hand.only(hand.ledger, Cancel)
    assert cancel.tasks == [(ref, 2)]
    written = hand.verdicts("east", returned=[Returned(ref, 0, 0)])
    assert hand.only(written, Settled)[-1].ended[0].kind == "cancelled", "not placed again"
    assert hand.state.live == 0


def test_an_ok_that_the_region_read_first_wins_over_a_cancel() -> None:
    hand = Hand()
    (ref,) = out(hand, quick("a"))
    hand.cancel("a")
    hand.verdicts("east", [ref])
    (said,) = hand.cancel("a")
    assert isinstance(said, Refusal) and said.code == "already_ended" and "completed" in said.detail


def test_each_id_of_a_cancel_has_its_own_answer() -> None:
    hand = Hand()
    (ref,) = hand.admit(quick("a"))
    said = hand.cancel("a", "ghost", id_of(1 << 40), id_of(ref + 5))
    assert said[0] == Done(ref, "cancelled")
    assert [item.code for item in said[1:] if isinstance(item, Refusal)] == ["not_found"] * 3


# ---------------------------------------------------------------------- retry
def test_a_retried_task_keeps_its_id_and_does_not_wait_again() -> None:
    hand = Hand()
    dep, ref = hand.admit(quick("dep"), quick("a", "dep"))
    hand.rooms(east=10)
    hand.verdicts("east", [dep])
    hand.rooms(east=10)
    hand.verdicts("east", ended=[Ended(ref, 1, "dead", "error", 5, 4, 0)])
    assert hand.retry("a", quick("a", "dep"), ref) == Done(ref, "ready")
    (redriven,) = hand.only(hand.ledger, Redriven)
    assert [(d.ref, d.kind) for d in redriven.dependencies] == [(dep, "ok")]
    (item,) = hand.only(hand.ledger, Delegated)[-1].items
    assert (item.ref, item.charged, item.source) == (ref, 0, hand.ledger.index(redriven) + 1)
    assert item.more is not None and item.more.inputs is not None
    assert hand.admit(quick("a", "dep")) == [ref]


def test_only_what_failed_can_be_retried() -> None:
    hand = Hand()
    done, _ = hand.admit(quick("done"), Submission("odd", b"", "live"))
    hand.rooms(east=10)
    hand.verdicts("east", [done])
    for name, code in (("done", "conflict"), ("live", "still_live"), ("ghost", "not_found")):
        said = hand.retry(name, quick(name), done)
        assert isinstance(said, Refusal) and said.code == code


def test_a_retry_whose_submission_could_not_be_read_is_told_to_come_back() -> None:
    hand = Hand()
    hand.admit(quick("a"))
    hand.cancel("a")
    said: list[Any] = []
    hand.turn(Inputs(retries=[ActRequest(Act(["a"]), lambda answer: said.extend(answer.items))]))
    assert said[0].code == "unavailable" and said[0].status == 503


# ---------------------------------------------------------------------- notices
def test_each_inbox_is_told_once_of_what_is_its_own() -> None:
    hand = Hand()
    mine = hand.admit(quick(), quick(), inbox="mine")
    theirs = hand.admit(quick(), inbox="theirs")
    nobody = hand.admit(quick())
    hand.rooms(east=10)
    hand.verdicts("east", [*mine, *theirs, *nobody])
    assert [(inbox, [where.refs for where in told.ok]) for inbox, told in hand.notices] == [
        ("mine", [mine]),
        ("theirs", [theirs]),
    ]


def test_one_entry_may_hold_several_inboxes() -> None:
    hand = Hand()
    requests = [
        SubmitRequest(Submit(inbox, [Group("", [quick()] * 2)]), 10, lambda answer: None)
        for inbox in ("one", "", "two", "one")
    ]
    hand.turn(Inputs(submits=requests))
    assert len(hand.ledger) == 1
    hand.rooms(east=10)
    hand.verdicts("east", list(range(1024, 1032)))
    assert [(inbox, told.ok[0].refs) for inbox, told in hand.notices] == [
        ("one", [1024, 1025, 1030, 1031]),
        ("two", [1028, 1029]),
    ]
