"""Growth: functions of at most 70 lines, files of at most 400, no attics.

The exceptions are ratchets: what stands there is today's size, it may shrink and must not grow. An entry
that is no longer needed is an error too, so that the list ends up empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tidy.source import every_python_file, relative, tree

FUNCTION_LINES = 70
FILE_LINES = 400
LONGER_FUNCTIONS: Mapping[str, int] = {}  # "path::name" -> lines
LONGER_FILES: Mapping[str, int] = {}  # "path" -> lines
ATTICS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "tools", "shared"}


def functions(module: ast.Module, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    """(qualified name, first line, lines) of every function, nested ones included."""
    for node in ast.iter_child_nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{prefix}{node.name}", node.lineno, node.end_lineno - node.lineno + 1
        if isinstance(node, ast.ClassDef):
            yield from functions(ast.Module(node.body, []), f"{prefix}{node.name}.")


def is_attic(path: Path) -> bool:
    return bool({part.strip("_") for part in path.with_suffix("").parts} & ATTICS)


@pytest.mark.parametrize("path", every_python_file(), ids=relative)
def test_functions_fit_on_a_screen_and_files_in_a_head(path: Path) -> None:
    name = relative(path)
    lines = len(path.read_text().splitlines())
    limit = LONGER_FILES.get(name, FILE_LINES)
    assert lines <= limit, (
        f"{name} has {lines} lines, the limit is {limit}: give a part of it a room of its own."
    )
    assert limit == FILE_LINES or lines > FILE_LINES, f"{name} fits: take it off LONGER_FILES."
    for function, at, length in functions(tree(path)):
        known = LONGER_FUNCTIONS.get(f"{name}::{function}", FUNCTION_LINES)
        assert length <= known, (
            f"{name}:{at}: {function} has {length} lines, the limit is {known}: name its parts."
        )


def test_no_file_is_an_attic() -> None:
    attics = [relative(path) for path in every_python_file() if is_attic(Path(relative(path)))]
    assert not attics, f"{attics}: nobody finds anything there. Name the file after what it knows."


def test_the_guards_bite() -> None:
    long = "class C:\n    def f(self):\n" + "        x = 1\n" * 70
    assert [(name, lines) for name, _, lines in functions(ast.parse(long))] == [("C.f", 71)]
    assert is_attic(Path("web/echelon_web/utils.py")) and is_attic(Path("core/common/x.py"))
    assert not is_attic(Path("core/echelon_core/queue.py"))
