"""Purity by name: what decides and what applies knows no clock, chance, file, network or environment.

Purity by effect (one log, two hash seeds, the same bytes) is with each fold's own properties.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidy.source import PURE, ROOT, pure, relative, tree

MODULES = {
    "asyncio": "the shell awaits; a pure module is called by it",
    "nats": "echelon_infra.jetstream talks to the server",
    "os": "settings are resolved once, by infra/settings.py, and passed in",
    "time": "take `now: float` as a parameter",
    "random": "take the chance as a number in [0, 1) and log what it made",
    "secrets": "take the chance as a number in [0, 1) and log what it made",
    "uuid": "derive ids from the ledger's sequence (runs.ref_of)",
    "socket": "echelon_infra talks to the network",
    "logging": "return a value that says it; the shell logs",
    "structlog": "return a value that says it; the shell logs",
    "threading": "one leader, one loop: hand the work to the shell",
    "subprocess": "processes are started by infra/process.py and worker/children",
    "pathlib": "files are the shell's: pass in what was read",
    "sqlite3": "tables are the shell's: pass in what was read",
}
CALLS = {
    "open": "files are the shell's: pass in what was read",
    "print": "return a value that says it; the shell logs",
    "input": "take it as a parameter",
    "hash": "fold.digest_of: hash() of a str differs from process to process",
    "id": "compare values: an address differs from process to process",
}
METHODS = {
    ("datetime", "now"): "take `now: float` as a parameter",
    ("datetime", "utcnow"): "take `now: float` as a parameter",
    ("datetime", "today"): "take `now: float` as a parameter",
    ("date", "today"): "take `now: float` as a parameter",
}
ORDERLESS = "a set iterates differently in every process: sorted(…) it"


def impurities(module: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, what is banned, use instead) for each breach."""
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                for name in names:
                    if mend := MODULES.get(name.name.split(".")[0]):
                        yield node.lineno, f"import {name.name}", mend
            case ast.ImportFrom(module=str(source), level=0):
                if mend := MODULES.get(source.split(".")[0]):
                    yield node.lineno, f"from {source} import", mend
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "await or async", "move it to doors.py or run.py of this tier"
            case ast.Call(func=ast.Name(id=called)) if called in CALLS:
                yield node.lineno, f"{called}()", CALLS[called]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=method)):
                if mend := METHODS.get((owner, method)):
                    yield node.lineno, f"{owner}.{method}()", mend
            case ast.For(iter=over) | ast.comprehension(iter=over) if is_set(over):
                yield over.lineno, "a loop over a set", ORDERLESS
            case _:
                pass


def is_set(node: ast.expr) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub(), left=left, right=right):
            return is_set(left) or is_set(right)
        case _:
            return False


@pytest.mark.parametrize("path", list(pure()), ids=relative)
def test_pure_modules_only_look_and_obey(path: Path) -> None:
    breaches = [
        f"{relative(path)}:{line}: {what} is banned here: {mend}."
        for line, what, mend in impurities(tree(path))
    ]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("pattern", PURE)
def test_every_pattern_of_pure_modules_finds_some(pattern: str) -> None:
    assert list(ROOT.glob(pattern)), (
        f"{pattern} finds nothing. Renamed? Then rename it in tests/tidy/source.py."
    )


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "import os.path",
        "from random import random",
        "from uuid import uuid4",
        "def f():\n    import asyncio",
        "async def f(): ...",
        "x = hash('a')",
        "x = open('f')",
        "x = datetime.now()",
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "z = [x for x in frozenset(y) | w]",
    ],
)
def test_the_guard_bites(line: str) -> None:
    assert list(impurities(ast.parse(line)))


def test_the_guard_leaves_honest_code_alone() -> None:
    good = "import re\nfor x in sorted({1, 2}): pass\ny = {x for x in z}\nw = digest_of(y)\nv = a | b"
    assert not list(impurities(ast.parse(good)))
