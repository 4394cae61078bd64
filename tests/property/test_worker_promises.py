"""What the worker's pure parts promise, whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from echelon.wire.child import (
    CANCELLED,
    DIED,
    HANDED_BACK,
    OK,
    TIMEOUT,
    Bundle,
    Executing,
    Ran,
    Run,
    encode_bundle,
    join,
    outcomes,
    run_count,
)
from echelon.wire.codec import pack
from echelon_worker import credit
from echelon_worker.autopsy import autopsy
from echelon_worker.copies import Copies
from echelon_worker.credit import Pace
from echelon_worker.deadlines import GRACE_S, STOP_GRACE_S, Kill, Look, due, look
from echelon_worker.orders import REMEMBERED_S, Orders
from echelon_worker.outcomes import keys_of, split
from echelon_worker.pressure import Figures, Level, Pressure

paces = st.builds(Pace, each_s=st.floats(0, 1e3), per_message=st.floats(1, 64))
shares = st.sampled_from([level.value for level in Level])
slots = st.integers(1, 500)
keys = st.tuples(st.integers(1, 50), st.integers(1, 3))


# ---------------------------------------------------------------------------------------- credit
@given(paces, slots, st.integers(0, 10_000), shares)
def test_credit_is_bounded_and_a_free_slot_asks_unless_memory_is_gone(
    pace: Pace, number: int, held: int, share: float
) -> None:
    asked = credit.ask(pace, number, held, share)
    assert 0 <= asked <= credit.MOST
    if held < number and (share > 0 or not held):
        assert asked >= 1
    if share == 0 and held:
        assert asked == 0


@given(paces, slots, st.integers(0, 10_000), shares)
def test_a_full_lane_asks_only_for_what_it_works_off_within_the_horizon(
    pace: Pace, number: int, held: int, share: float
) -> None:
    if held >= number and held * pace.each_s >= credit.HORIZON_S:
        assert credit.ask(pace, number, held, share) == 0


@given(paces, slots, st.integers(0, 1000))
def test_more_held_never_asks_for_more_and_pressure_never_either(pace: Pace, number: int, held: int) -> None:
    easy, more = credit.ask(pace, number, held, 1.0), credit.ask(pace, number, held + 1, 1.0)
    assert more <= easy
    assert credit.ask(pace, number, held, 0.0) <= credit.ask(pace, number, held, 0.2) <= easy


@given(st.floats(1e-6, 10.0), st.integers(1, 64), st.integers(1, 8))
def test_the_pace_of_a_steady_lane_is_found(each_s: float, runs: int, children: int) -> None:
    """`children` work side by side on bundles of `runs`; the lane ends one run every each_s ÷ children."""
    pace = Pace()
    ends = sorted((n + 1) * runs * each_s + c * 1e-9 for n in range(60) for c in range(children))
    for end in ends:
        pace.came_back(runs, end - runs * each_s, end)
    expected = each_s / children
    assert abs(pace.each_s - expected) <= 0.6 * expected


@given(paces, slots, st.integers(1, 8), st.integers(0, 1000), st.floats(0, 1))
def test_a_child_with_a_free_slot_is_always_given_more_and_a_silent_full_one_never(
    pace: Pace, number: int, children: int, given_: int, silent_s: float
) -> None:
    fits = credit.fits(pace, number, children, given_, silent_s)
    if given_ < number:
        assert fits
    elif silent_s >= credit.AHEAD_S:
        assert not fits


# ------------------------------------------------------------------------------------- deadlines
@given(
    st.integers(0, 9), keys, st.floats(0, 100), st.floats(0.001, 100), st.floats(0, 100), st.floats(0, 200),
    st.dictionaries(keys, st.floats(0, 200), max_size=3), st.booleans(),
)  # fmt: skip
def test_only_who_has_the_thread_and_overran_is_killed(
    beat: int, key: tuple[int, int], started: float, timeout_s: float, since: float, now: float,
    stops: dict[tuple[int, int], float], shared: bool,
) -> None:  # fmt: skip
    page = Executing(beat, *key, started, timeout_s)
    verdict = due(Look(page, since), stops, now, shared=shared)
    if isinstance(verdict, Kill):
        assert page.busy
        assert (verdict.ref, verdict.run) == key
        overran = now >= started + timeout_s + GRACE_S
        assert verdict.status == (TIMEOUT if overran else CANCELLED)
        assert overran or now >= stops[key] + STOP_GRACE_S
    elif page.busy and since < now:
        assert now < started + timeout_s + GRACE_S


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1))
def test_a_page_is_believed_only_when_two_looks_saw_it_alike(pages: list[tuple[int, int]]) -> None:
    seen: Look | None = None
    before: Executing | None = None
    for at, (beat, ref) in enumerate(pages, start=10):
        page = Executing(beat, ref, 1, 0.0, 1.0)
        seen = look(seen, page, float(at))
        verdict = due(seen, {}, float(at), shared=False)
        assert (verdict is not None) == (page.busy and page == before)
        before = page


# --------------------------------------------------------------------------------------- autopsy
@given(
    st.lists(keys, unique=True), st.integers(0, 3), keys, st.sets(keys), st.booleans(),
    st.none() | st.builds(Kill, st.sampled_from([TIMEOUT, CANCELLED]), st.integers(1, 50), st.integers(1, 3)),
)  # fmt: skip
def test_each_unreported_run_gets_one_end_and_only_the_guilty_pay(
    unreported: list[tuple[int, int]], beat: int, key: tuple[int, int], begun: set[tuple[int, int]],
    orderly: bool, killed: Kill | None,
) -> None:  # fmt: skip
    page = Executing(beat, *key, 0.0, 1.0)
    ends = list(autopsy(unreported, page, begun, killed, orderly=orderly))
    assert [run for run, _ in ends] == unreported
    paid = {run: status for run, status in ends if status != HANDED_BACK}
    if killed is not None:
        assert set(paid.items()) <= {((killed.ref, killed.run), killed.status)}
    else:
        assert set(paid.values()) <= {DIED}
        assert set(paid) <= ({key} if page.busy else begun)
        if orderly and not page.busy:
            assert not paid
        if page.busy and key in unreported:
            assert paid == {key: DIED}


# ---------------------------------------------------------------------------------------- copies
@given(st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=3)), max_size=60), st.integers(1, 5))
def test_a_copy_within_reach_is_known_and_other_content_is_news(
    messages: list[tuple[int, bytes]], remembered: int
) -> None:
    copies = Copies(remembered)
    newest: dict[int, bytes] = {}
    for sequence, data in messages:
        known = newest.pop(sequence, None) == data
        assert copies.add(sequence, data) is not known
        newest[sequence] = data
        newest = dict(list(newest.items())[-remembered:])


@given(st.lists(st.tuples(st.floats(0, 300), keys), max_size=30))
def test_an_order_is_remembered_a_minute_from_its_last_repetition(
    orders: list[tuple[float, tuple[int, int]]],
) -> None:
    book, last = Orders(), dict[tuple[int, int], float]()
    for at, key in sorted(orders):
        book.expire(at)
        alive = {run for run, since in last.items() if at < since + REMEMBERED_S}
        assert set(book.stops) == alive
        assert (book.add([key], at) == [key]) is (key not in alive)
        last[key] = at


# -------------------------------------------------------------------------------------- pressure
@given(st.lists(st.builds(Figures, st.floats(0, 100), st.floats(0, 100)), min_size=1))
def test_pressure_has_no_flutter_between_its_bounds(figures: list[Figures]) -> None:
    pressure = Pressure()
    for one in figures:
        after = pressure.after(one)
        if 80 <= one.cpu < 95:
            assert after.cpu == pressure.cpu
        if one.memory >= 95:
            assert after.level is Level.FULL
        if one.cpu < 80 and one.memory < 80:
            assert after.level is Level.EASY
        pressure = after


# ------------------------------------------------------------------------------------ wire shapes
rans = st.builds(
    Ran, st.integers(1, 2**60), st.integers(1, 2**60), st.sampled_from([OK, DIED]), st.binary(max_size=400),
    st.floats(0, 2e9), st.floats(0, 2e9),
)  # fmt: skip


@given(st.lists(rans, min_size=1, max_size=40), st.integers(1, 2000))
def test_outcomes_are_split_between_items_and_never_inside_one(items: list[Ran], most: int) -> None:
    pieces = split(len(items), b"".join(map(pack, items)), most)
    assert outcomes(join("w", pieces)).ran == items
    assert [key for count, piece in pieces for key in keys_of(count, piece)] == [
        (i.ref, i.run) for i in items
    ]
    assert all(count == 1 or len(piece) <= most for count, piece in pieces)


@given(st.integers(1, 70_000))
def test_runs_are_counted_without_decoding(count: int) -> None:
    head = encode_bundle(Bundle(False, [Run(1, 1, "t", b"", 1.0, 1)] * min(count, 40)))
    assert run_count(head) == min(count, 40)
    if count > 40:
        size = b"\xdc" + count.to_bytes(2, "big") if count < 65536 else b"\xdd" + count.to_bytes(4, "big")
        assert run_count(b"\x92\xc2" + size) == count
