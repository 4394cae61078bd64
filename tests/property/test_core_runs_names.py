"""Numbers and names that everything else is built from: round trips, order, no two alike."""

from __future__ import annotations

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from echelon.wire.names import id_of, is_task_id, is_task_type, is_token, ref_of
from echelon_core import names, runs

refs = st.integers(0, 2**63 - 1)
tokens = st.from_regex(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}", fullmatch=True)
SUBJECT = re.compile(r"[!-~]+(\.[!-~]+)*")


@given(st.integers(1, 2**50), st.integers(0, 1023))
def test_a_ref_names_its_entry_and_its_place(sequence: int, index: int) -> None:
    ref = runs.ref_of(sequence, index)
    assert (runs.sequence_of(ref), runs.index_of(ref)) == (sequence, index)


@given(st.integers(1, 2**50), st.integers(0, 1022))
def test_all_runs_of_a_delegation_name_it_and_come_in_order(delegation: int, before: int) -> None:
    run = runs.first_run(delegation)
    for _ in range(before):
        later = runs.next_run(run)
        assert later > run
        run = later
    assert runs.delegation_of(run) == delegation < runs.delegation_of(runs.first_run(delegation + 1))


@given(refs)
def test_a_made_id_is_its_ref(ref: int) -> None:
    made = id_of(ref)
    assert ref_of(made) == ref and is_task_id(made) and len(made) == 15


@given(refs, refs)
def test_made_ids_sort_as_their_tasks_came(a: int, b: int) -> None:
    assert (id_of(a) < id_of(b)) == (a < b)


@given(st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True))
def test_an_id_of_a_user_is_never_taken_for_a_made_one(text: str) -> None:
    assume(not re.fullmatch(r"t-[0-9a-hjkmnp-tv-z]{13}", text))
    assert ref_of(text) is None


@given(st.text(max_size=20))
def test_whatever_passes_as_an_id_or_token_is_what_the_grammar_says(text: str) -> None:
    ascii_id = bool(re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", text)) and any(c.isalnum() for c in text)
    assert is_task_id(text) == ascii_id
    assert is_token(text) == bool(re.fullmatch(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}", text))
    assert is_task_type(text) == bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,254}", text))


def test_lines_that_end_are_no_ids() -> None:
    """`$` would let a newline through; `\\Z` does not."""
    assert not is_task_id("a\n") and not is_token("east\n") and not is_task_type("t\n")


@given(tokens, tokens)
def test_no_two_regions_share_a_subject_a_stream_or_a_lease(a: str, b: str) -> None:
    assume(a != b)
    of_region = (
        names.delegated, names.control, names.outcomes, names.outcome_subject, names.region_log,
        names.region_subject, names.work, names.work_wall, names.room, names.claims, names.questions,
        names.roll_call, names.orders, names.region_lease, lambda region: names.worker_lease(region, "w"),
    )  # fmt: skip
    made = [name(region) for name in of_region for region in (a, b)]
    assert len(set(made)) == len(made)
    assert all(SUBJECT.fullmatch(name) and "*" not in name and ">" not in name for name in made)


@given(tokens, tokens, tokens, st.sampled_from(["async", "sync"]))
def test_lanes_have_consumers_and_subjects_of_their_own(region: str, a: str, b: str, lane: str) -> None:
    assume(a != b)
    assert names.work_subject(region, a, "async") != names.work_subject(region, a, "sync")
    assert names.work_subject(region, a, lane) != names.work_subject(region, b, lane)
    assert names.work_subject(region, a, lane) != names.work_wall(region)
    assert names.work_consumer(a, lane) != names.work_consumer(b, lane)
    assert not re.search(r"[.*>\s/\\]", names.work_consumer(a, lane))  # the server refuses such names
