"""The README names every setting, every alias and every command."""

from __future__ import annotations

import re
from pathlib import Path

from echelon_infra.settings import ALIASES, TABLE
from echelon_ops.cli.root import COMMANDS

README = (Path(__file__).parents[2] / "README.md").read_text()


def words(title: str) -> set[str]:
    """What stands in backticks in a section, word by word."""
    section = README.split(f"## {title}\n")[1].split("\n## ")[0]
    return {word for code in re.findall(r"`([^`]+)`", section) for word in code.split()}


def test_every_setting_and_alias_is_in_the_table() -> None:
    assert set(TABLE) | set(ALIASES) <= words("Settings")


def test_every_command_is_in_the_table() -> None:
    assert set(COMMANDS) <= words("Commands")


def test_the_two_lines_that_set_up_are_as_they_were_promised() -> None:
    assert "    pip install uv && uv run echelon up " in README
    assert "    pip install uv && uv run pytest " in README
