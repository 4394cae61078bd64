from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from echelon.wire import check
from echelon.wire.api import Backoff
from echelon_core.retry import delay_s

seconds = st.floats(0, check.MAX_TIMEOUT_S)
backoffs = st.builds(
    Backoff,
    kind=st.sampled_from(["exponential", "constant", "linear"]),
    base_s=seconds,
    factor=st.floats(1, check.MAX_FACTOR),
    cap_s=seconds,
    jitter_s=seconds,
)
chances = st.floats(0, 1, exclude_max=True)


@given(backoffs, st.integers(1, 10_000), chances)
def test_the_wait_stays_between_nothing_and_cap_plus_jitter(backoff: Backoff, n: int, chance: float) -> None:
    wait = delay_s(backoff, n, chance)
    assert math.isfinite(wait) and 0 <= wait <= backoff.cap_s + backoff.jitter_s


@given(backoffs, st.integers(1, 1000), chances)
def test_the_wait_never_shrinks_from_failure_to_failure(backoff: Backoff, n: int, chance: float) -> None:
    assert delay_s(backoff, n, chance) <= delay_s(backoff, n + 1, chance)


@given(st.integers(1, 100), chances)
def test_the_default_doubles_from_a_second_to_five_minutes(n: int, chance: float) -> None:
    assert delay_s(Backoff(), n, chance) == min(300.0, 2.0 ** (n - 1)) + chance
