"""Harm done to a whole Echelon under load, and the judge's word on it. Longer and for any seed: `just kill`."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.kill import Plan, run

PLANS = {
    "each process dies once": Plan(tasks=6000, seed=1),
    "answers to workers are lost": Plan(tasks=900, seed=2, scenario="lost-answers", rounds=3),
    "leaders are deposed while they write": Plan(tasks=2400, seed=3, scenario="deposed", rounds=4),
}


@pytest.mark.parametrize("plan", PLANS)
async def test_nothing_is_lost_and_nothing_takes_effect_twice(tmp_path: Path, plan: str) -> None:
    verdict = await run(PLANS[plan], tmp_path)
    assert verdict.sound, str(verdict)
    assert verdict.acknowledged == verdict.tasks, "patience outlasts every one of these faults"
