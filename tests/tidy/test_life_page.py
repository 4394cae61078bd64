"""The table is the life of a task: what is drawn and promised elsewhere must agree with it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from echelon_core.life import LIVE, TERMINAL, TRANSITIONS, Event, Stage
from tidy.draw_life import PAGE, page


def reachable(table: Mapping[tuple[Stage, Event], Stage], start: Stage) -> set[Stage]:
    seen, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        for (before, _), after in table.items():
            if before == here and after not in seen:
                seen.add(after)
                ahead.append(after)
    return seen


def dead_ends(table: Mapping[tuple[Stage, Event], Stage]) -> set[Stage]:
    return {stage for stage in LIVE if not reachable(table, stage) & TERMINAL}


def test_the_page_is_what_the_table_draws() -> None:
    assert PAGE.read_text() == page(), "docs/learn/life.md is stale: run `just docs`."


def test_every_live_stage_has_a_way_to_an_end() -> None:
    assert not dead_ends(TRANSITIONS)


def test_every_stage_can_be_reached() -> None:
    assert reachable(TRANSITIONS, Stage.WAITING) == set(Stage)


@pytest.mark.parametrize("stage", sorted(LIVE))
def test_every_live_stage_can_be_cancelled_and_all_but_running_expire(stage: Stage) -> None:
    assert TRANSITIONS[stage, Event.CANCELLED] == Stage.CANCELLED
    assert ((stage, Event.EXPIRED) in TRANSITIONS) == (stage is not Stage.RUNNING)


def test_the_guard_bites() -> None:
    without = {arrow: after for arrow, after in TRANSITIONS.items() if arrow[0] is not Stage.RETRYING}
    assert dead_ends(without) == {Stage.RETRYING}
