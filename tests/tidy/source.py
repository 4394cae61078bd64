"""Where the product's files are, for the guards.

A guard is a function from text to complaints; each is tested on text that is bad.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "echelon": "sdk",
    "echelon_core": "core",
    "echelon_infra": "infra",
    "echelon_master": "master",
    "echelon_regional": "regional",
    "echelon_worker": "worker",
    "echelon_web": "web",
    "echelon_ops": "ops",
}

MASTER = ("admit", "control", "graph", "image", "notices", "place", "settle", "tables")
REGIONAL = ("bundle", "release", "takeback", "window")
WORKER = ("autopsy", "copies", "credit", "deadlines", "held", "orders", "pressure")

PURE = (
    "sdk/echelon/wire/*.py",
    "core/echelon_core/**/*.py",
    "*/echelon_*/state.py",
    "*/echelon_*/decide.py",
    *(f"master/echelon_master/{name}.py" for name in MASTER),
    *(f"regional/echelon_regional/{name}.py" for name in REGIONAL),
    *(f"worker/echelon_worker/{name}.py" for name in WORKER),
    "web/echelon_web/draw/*.py",
)
"""Modules that know no clock, chance, network, file or environment; `await` is not theirs either."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def product() -> dict[str, Path]:
    """Module name -> file, for every package of ours."""
    found = {}
    for package, room in PACKAGES.items():
        for path in sorted((ROOT / room / package).rglob("*.py")):
            parts = path.relative_to(ROOT / room).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def every_python_file() -> tuple[Path, ...]:
    """Product and tests, without what tools make."""
    folders = [*PACKAGES.values(), "tests", "examples", "docs"]
    return tuple(
        sorted(
            path
            for folder in folders
            for path in (ROOT / folder).rglob("*.py")
            if not {"node_modules", ".venv", "__pycache__"} & set(path.parts)
        )
    )


def pure() -> Iterator[Path]:
    for pattern in PURE:
        yield from sorted(ROOT.glob(pattern))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def docstrings(module: ast.Module) -> set[int]:
    """The ids of the nodes that document: they are for people, guards on literals pass them over."""
    nodes = (node for node in ast.walk(module) if hasattr(node, "body") and isinstance(node.body, list))
    return {
        id(statement.value)
        for node in nodes
        for statement in node.body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
