"""Subjects, streams and the server's API are literals in one place each; everybody else calls a function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidy.source import PACKAGES, docstrings, product, relative, tree

NAMES = {"core/echelon_core/names.py", "sdk/echelon/wire/names.py"}
SERVER = ("infra/echelon_infra/jetstream/", "sdk/echelon/transport.py", "infra/echelon_infra/server.py")
METRICS = "infra/echelon_infra/telemetry/metrics.py"

OURS = re.compile(r"echelon[._][a-z]")
THEIRS = re.compile(r"\$(JS|KV|O|SYS)\.")
MODULES = {*PACKAGES, "echelon_vendor"}
FILES = {"echelon.toml"}


def literals(module: ast.Module) -> Iterator[tuple[int, str]]:
    passed_over = docstrings(module)
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and id(node) not in passed_over
        ):
            yield node.lineno, node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def is_module(text: str) -> bool:
    """`echelon.child.main` is a module, `echelon.ledger.admitted` a subject."""
    return text in FILES or text.split(":")[0] in product() or text.split(".")[0] in MODULES - {"echelon"}


def scattered(name: str, module: ast.Module) -> Iterator[tuple[int, str]]:
    if name in NAMES:
        return
    for line, text in literals(module):
        if OURS.match(text) and not is_module(text) and name != METRICS:
            yield line, f"{text!r}: add a function to core/echelon_core/names.py and call it"
        if THEIRS.match(text) and not name.startswith(SERVER):
            yield line, f"{text!r}: the server's API is called through echelon_infra.jetstream"
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "PREFIX" for alias in node.names):
            yield node.lineno, "PREFIX: add a function to core/echelon_core/names.py and call it"


@pytest.mark.parametrize("path", list(product().values()), ids=relative)
def test_names_are_built_in_one_place(path: Path) -> None:
    found = [f"{relative(path)}:{line}: {what}." for line, what in scattered(relative(path), tree(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'x = "echelon.ledger.admitted"',
        'x = f"echelon.room.{region}"',
        'x = b"echelon_ledger"',
        'x = "$JS.API.STREAM.INFO.x"',
        'x = f"$KV.leases.{key}"',
        "from echelon.wire.names import PREFIX",
    ],
)
def test_the_guard_bites(line: str) -> None:
    assert list(scattered("web/echelon_web/app.py", ast.parse(line)))


def test_the_guard_leaves_modules_files_and_prose_alone() -> None:
    good = '"""echelon.ledger.admitted"""\nx = "echelon_master.run"\ny = "echelon.toml"\nz = "Echelon. It is"'
    assert not list(scattered("web/echelon_web/app.py", ast.parse(good)))
