"""Every help as a text that a second reader sees change, at most 76 columns wide. `just golden` writes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from echelon_ops.cli.root import COMMANDS, run

GOLDEN = Path(__file__).parents[1] / "golden" / "help"
PAGES = {"echelon": [], **{command: [command] for command in COMMANDS}, "demo-census": ["demo", "census"]}
COLUMNS = 76


def page(arguments: list[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run([*arguments, "--help"]) == 0
    lines = [line.rstrip() for line in said.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


@pytest.mark.parametrize("name", PAGES)
def test_a_help_changes_only_when_someone_looks(name: str) -> None:
    assert page(PAGES[name]) == (GOLDEN / f"{name}.txt").read_text(), (
        "Run `just golden` and read the difference: help is interface."
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_help_fits_76_columns(name: str) -> None:
    wide = [line for line in page(PAGES[name]).splitlines() if len(line) > COLUMNS]
    assert not wide


def test_no_page_is_left_of_a_command_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(PAGES)


if __name__ == "__main__":
    for name, arguments in PAGES.items():
        (GOLDEN / f"{name}.txt").write_text(page(arguments))
