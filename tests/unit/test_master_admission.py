"""What is admitted, what is refused, and what the same question is answered again."""

from __future__ import annotations

from echelon.errors import error_of
from echelon.wire.api import Admission, Group, Options, Refusal, Submission
from echelon.wire.names import id_of
from echelon_core.entries import Admitted, Delegated, Ended
from echelon_master.admit import Limits
from echelon_master.decide import Policy
from support.master_hand import Hand


def quick(task_id: str = "", *dependencies: str, payload: bytes = b"{}") -> Submission:
    return Submission("quick", payload, task_id, dependencies=dependencies)


def code(said: Admission | Refusal) -> str:
    return said.code if isinstance(said, Refusal) else "admitted"


def test_what_arrives_together_is_one_entry() -> None:
    hand = Hand()
    said = hand.submit_groups([Group("", [quick()]), Group("", [quick(), quick()])])
    assert [answer.refs() for answer in said if isinstance(answer, Admission)] == [[1024], [1025, 1026]]
    assert len(hand.ledger) == 1


def test_more_than_a_thousand_tasks_are_more_entries_and_no_group_is_cut() -> None:
    hand = Hand()
    said = hand.submit_groups([Group("", [quick()] * 600) for _ in range(5)])
    assert len(hand.ledger) == 5
    assert [answer.first >> 10 for answer in said if isinstance(answer, Admission)] == [1, 2, 3, 4, 5]
    hand.submit_groups([Group("", [quick()] * 400) for _ in range(5)])
    assert [sum(len(g.tasks) for g in e.groups) for e in hand.ledger[5:]] == [800, 800, 400]


def test_two_submissions_of_one_id_in_one_batch_are_one_task() -> None:
    hand = Hand()
    other = Group("", [quick("a", payload=b"1"), quick()])
    first, second, third = hand.submit_groups([Group("", [quick("a")]), Group("", [quick("a")]), other])
    assert isinstance(first, Admission) and isinstance(second, Admission)
    assert first.refs() == second.refs() == [1024]
    assert isinstance(third, Refusal) and third.code == "task_id_conflict"
    assert [error.field for error in third.errors] == ["payload"]
    assert hand.state.live == 1


def test_the_same_id_again_is_the_same_task_while_it_lives_and_after_it_ended() -> None:
    hand = Hand()
    (ref,) = hand.admit(quick("a"))
    assert hand.admit(quick("a"), quick()) == [ref, 2048]
    hand.rooms(east=10)
    assert hand.admit(quick("a")) == [ref]
    hand.verdicts("east", [ref])
    assert hand.state.find(ref) is None and hand.admit(quick("a")) == [ref]
    said = hand.submit(quick("a", payload=b"[]"))
    assert isinstance(said, Refusal) and len(said.errors) == 5


def test_a_conflict_names_the_fields_that_differ() -> None:
    hand = Hand()
    hand.admit(quick("dep"), Submission("quick", b"{}", "a", 5, ("dep",), Options(retries=2)))
    other = Submission("slow", b"{}", "a", 6, (), Options(timeout_s=9.0, retries=2))
    said = hand.submit(other)
    assert isinstance(said, Refusal)
    found = sorted(error.field for error in said.errors)
    assert found == ["dependencies", "priority", "task_type", "timeout"]


def test_a_repeated_key_gives_the_same_answer_for_ten_minutes() -> None:
    hand = Hand()
    both = hand.submit_groups([Group("k", [quick(), quick()]), Group("k", [quick(), quick()])])
    assert both[0] == both[1] and hand.state.live == 2
    assert hand.admit(quick(), quick(), key="k") == [1024, 1025]
    hand.turn(after_s=500)
    hand.admit(quick(), key="other")
    assert hand.admit(quick(), quick(), key="k") == [1024, 1025]
    hand.turn(after_s=200)
    hand.admit(quick())
    assert hand.admit(quick(), quick(), key="k") != [1024, 1025]
    assert len(hand.state.keys) == 2


def test_a_key_of_another_request_is_refused() -> None:
    hand = Hand()
    hand.admit(quick(), key="k")
    groups = [Group("k", [quick(), quick()]), Group("new", [quick()]), Group("new", [quick()] * 2)]
    said = hand.submit_groups(groups)
    assert [code(answer) for answer in said] == ["conflict", "admitted", "conflict"]


def test_nothing_is_half_admitted_and_every_bad_field_is_named() -> None:
    hand = Hand()
    said = hand.submit(
        quick("good"), Submission("", b"", "bad id", 11, ("good", "?"), Options(timeout_s=-1)), quick("good")
    )
    assert isinstance(said, Refusal)
    fields = [error.field for error in said.errors]
    assert fields == [
        "tasks[1].task_type", "tasks[1].task_id", "tasks[1].priority", "tasks[1].timeout",
        "tasks[1].dependencies[1]", "tasks[2].task_id",
    ]  # fmt: skip
    assert not hand.ledger and code(hand.submit()) == "invalid"


def test_an_unknown_dependency_names_its_place() -> None:
    hand = Hand()
    said = hand.submit(quick("a"), quick("b", "a", "ghost"), quick("", id_of(1 << 40)))
    assert isinstance(said, Refusal) and said.status == 422
    assert [(error.field, error.code) for error in said.errors] == [
        ("tasks[1].dependencies[1]", "unknown_dependency"),
        ("tasks[2].dependencies[0]", "unknown_dependency"),
    ]


def test_dependencies_of_the_same_request_come_in_any_order() -> None:
    hand = Hand()
    last, first = hand.admit(quick("last", "first"), quick("first"))
    assert [item.ref for entry in hand.rooms(east=10) for item in entry.items] == [first]
    hand.verdicts("east", [first])
    entry = hand.only(hand.ledger, Delegated)[-1]
    assert [item.ref for item in entry.items] == [last]
    assert [source.ref for source in entry.items[0].more.inputs] == [first]


def test_a_dependency_that_ended_well_is_an_input_at_once() -> None:
    hand = Hand()
    (made,) = hand.admit(quick())
    (named,) = hand.admit(quick("named"))
    hand.rooms(east=10)
    hand.verdicts("east", [made, named])
    hand.admit(quick("after", "named", id_of(made)))
    inputs = hand.only(hand.ledger, Delegated)[-1].items[0].more
    assert inputs is not None and inputs.inputs is not None
    assert [(one.id, one.ref, one.region, one.sequence) for one in inputs.inputs] == [
        ("named", named, "east", 71),
        (id_of(made), made, "east", 71),
    ]


def test_a_dependency_that_ended_badly_ends_its_dependants_as_it_ended() -> None:
    hand = Hand()
    bad, gone, old = hand.admit(quick("bad"), quick("gone"), quick("old"))
    child, grandchild = hand.admit(quick("child", "bad"), quick("grandchild", "child"), inbox="inbox")
    hand.rooms(east=10)
    hand.verdicts(
        "east", ended=[Ended(bad, 1, "dead", "error", 5, 1, 0), Ended(old, 1, "expired", "", 0, 0, 0)]
    )
    hand.cancel("gone")
    hand.verdicts("east", ended=[Ended(gone, 1, "cancelled", "cancelled", 0, 0, 0)])
    late, cancelled, expired = hand.admit(quick("late", "bad"), quick("c", "gone"), quick("e", "old"))
    ends = {end.ref: end for entry in hand.ledger for end in getattr(entry, "ended", ())}
    said = {ref: (ends[ref].kind, ends[ref].cause, ends[ref].detail) for ref in ends}
    assert said[child] == said[late] == ("failed", "dependency_failed", "bad")
    assert said[grandchild] == ("failed", "dependency_failed", "child")
    assert said[cancelled] == ("cancelled", "dependency_cancelled", "gone")
    assert said[expired] == ("failed", "dependency_failed", "old")
    assert [end.ref for _, told in hand.notices for end in told.ended] == [child, grandchild]


def test_a_full_backlog_says_when_to_come_back() -> None:
    hand = Hand(Policy(backlog_tasks=10))
    refs = hand.admit(*[quick()] * 10, key="k")
    said = hand.submit(quick())
    assert isinstance(said, Refusal) and said.code == "overloaded" and said.retry_after_s == 5.0
    assert error_of(said).refusal().status == 429
    assert hand.admit(*[quick()] * 10, key="k") == refs, "what is admitted already is no new load"
    assert Limits(10, 10, drain_rate=50.0).retry_after_s(1000) == 20.0
    hand = Hand(Policy(backlog_bytes=1000))
    hand.admit(quick(payload=b'"' + b"x" * 900 + b'"'))
    assert code(hand.submit(quick(payload=b'"' + b"x" * 200 + b'"'))) == "overloaded"


def test_large_payloads_and_those_beyond_the_cache_stay_in_the_ledger() -> None:
    hand = Hand(cache_bytes=3000)
    large = b'"' + b"x" * 5000 + b'"'
    medium = b'"' + b"x" * 2000 + b'"'
    refs = hand.admit(quick(payload=large), quick(payload=medium), quick(payload=medium), quick(payload=b""))
    assert hand.state.cached_bytes == 2002
    (entry,) = hand.rooms(east=10)
    items = {item.ref: item for item in entry.items}
    assert [items[ref].payload for ref in refs] == [None, medium, None, b""]
    assert {item.source for item in entry.items} == {1}
    assert hand.state.cached_bytes == hand.state.waiting_bytes == 0


def test_a_blob_rides_by_name() -> None:
    hand = Hand()
    hand.admit(Submission("quick", b"", blob="p-1", payload_bytes=10_000_000, traceparent="00-1"))
    assert hand.state.waiting_bytes == 10_000_000
    (entry,) = hand.rooms(east=10)
    more = entry.items[0].more
    assert more is not None and (more.blob, more.traceparent) == ("p-1", "00-1")
    assert hand.state.waiting_bytes == 0


def test_an_entry_of_known_tasks_alone_is_not_written() -> None:
    hand = Hand()
    hand.admit(quick("a"))
    hand.admit(quick("a"))
    assert len(hand.only(hand.ledger, Admitted)) == 1
