"""Subjects, streams and the server's API are literals in one place each; everybody else calls a function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from echelon.wire.names import PREFIX
from tidy.source import ROOT, docstrings, product, relative, tree

NAMES = ("core/echelon_core/names.py", "sdk/echelon/wire/names.py")
SERVER = ("infra/echelon_infra/jetstream/", "sdk/echelon/transport.py", "infra/echelon_infra/server.py")
THEIRS = re.compile(r"\$(JS|KV|O|SYS)\.")
MEND = "add a function to core/echelon_core/names.py and call it"


@cache
def stems() -> tuple[str, ...]:
    """How the names begin that are built in one place: `echelon.ledger.`, `echelon_region_` …"""
    found = set()
    for name in NAMES:
        for node in ast.walk(tree(ROOT / name)):
            match node:
                case ast.JoinedStr(values=[ast.FormattedValue(), ast.Constant(value=str(text)), *_]):
                    found.add(PREFIX + text)
                case _:
                    pass
    return tuple(sorted(found))


def literals(module: ast.Module) -> Iterator[tuple[int, str]]:
    passed_over = docstrings(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Constant) or id(node) in passed_over:
            continue
        if isinstance(node.value, str | bytes):
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def built(module: ast.Module) -> Iterator[tuple[int, str]]:
    """What f-strings begin with."""
    for node in ast.walk(module):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), _, *_]):
                yield node.lineno, text
            case _:
                pass


def scattered(name: str, module: ast.Module) -> Iterator[tuple[int, str]]:
    if name in NAMES:
        return
    for line, text in literals(module):
        if text.startswith(stems()):
            yield line, f"{text!r}: {MEND}"
        if THEIRS.match(text) and not name.startswith(SERVER):
            yield line, f"{text!r}: the server's API is called through echelon_infra.jetstream"
    for line, text in built(module):
        if re.fullmatch(rf"{PREFIX}[._][a-z_.]*", text) and not text.startswith(f"{PREFIX}_ops."):
            yield line, f"{text!r}…: {MEND}"
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "PREFIX" for alias in node.names):
            yield node.lineno, f"PREFIX: {MEND}"


@pytest.mark.parametrize("path", list(product().values()), ids=relative)
def test_names_are_built_in_one_place(path: Path) -> None:
    found = [f"{relative(path)}:{line}: {what}." for line, what in scattered(relative(path), tree(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'x = "echelon.ledger.admitted"',
        'x = f"echelon.room.{region}"',
        'x = f"echelon.made_up.{region}"',
        'x = b"echelon_ledger"',
        'x = "$JS.API.STREAM.INFO.x"',
        'x = f"$KV.leases.{key}"',
        "from echelon.wire.names import PREFIX",
    ],
)
def test_the_guard_bites(line: str) -> None:
    assert list(scattered("web/echelon_web/app.py", ast.parse(line)))


def test_the_guard_leaves_modules_files_and_prose_alone() -> None:
    good = '"""echelon.ledger.admitted"""\nx = "echelon_master.run"\ny = "echelon.context() is"'
    assert not list(scattered("web/echelon_web/app.py", ast.parse(good)))
