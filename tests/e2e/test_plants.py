"""The planted bugs are in the product when they are asked for, and only then.

That the judge catches them on a whole system is `python tests/e2e/kill.py --plant NAME`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANTS = Path(__file__).parents[1] / "support/plants"
SPOILT = {
    "ack-before-puback": "echelon_worker.outcomes:Outcomes._publish",
    "runs-not-checked": "echelon_regional.decide:_Bench._current",
    "one-marker": "echelon_infra.jetstream.log:Log._batch",
}


def where_from(target: str, plant: str) -> str:
    """The module that a function of the product comes from, in a process with this plant."""
    module, _, names = target.partition(":")
    code = f"import {module} as m; print(m.{names}.__module__)"
    environ = {**os.environ, "PYTHONPATH": str(PLANTS), "PLANT": plant}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("plant", SPOILT)
def test_a_plant_spoils_what_it_names(plant: str) -> None:
    assert where_from(SPOILT[plant], plant) == "bugs"
    assert where_from(SPOILT[plant], "") == SPOILT[plant].partition(":")[0]


def test_an_unknown_plant_ends_the_process() -> None:
    environ = {**os.environ, "PYTHONPATH": str(PLANTS), "PLANT": "no-such-bug"}
    done = subprocess.run([sys.executable, "-c", ""], env=environ, capture_output=True, text=True)
    assert done.returncode != 0 and "no-such-bug" in done.stderr
