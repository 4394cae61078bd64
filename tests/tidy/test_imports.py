"""The arrows between rooms, laziness where it is promised, and no file that nobody imports."""

from __future__ import annotations

import ast
import configparser
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidy.source import ROOT, product, pure, tree

ENTRANCES = {"echelon_ops.cli"}
"""Started from outside (`[project.scripts]`); everything else is reached from there or from `echelon`."""


def mentioned(name: str, module: ast.Module, *, package: bool) -> Iterator[str]:
    """Names of modules that this one imports, now or later, or starts as `python -m`."""
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                here = name.split(".")
                above = here[: len(here) - level + package] if level else []
                stem = ".".join([*above, *([source] if source else [])])
                yield stem
                yield from (f"{stem}.{alias.name}" for alias in names)
            case ast.Constant(value=str(text)) if "." in text and text.isprintable():
                yield text.split(":")[0]
                yield f"{name}{text}" if text.startswith(".") else text
            case _:
                pass


def orphans(modules: Iterable[tuple[str, bool, ast.Module]]) -> set[str]:
    """Modules that no other mentions; a package lives by what is in it."""
    known = {name: package for name, package, _ in modules}
    seen: set[str] = set()
    for name, package, module in modules:
        seen |= {other for other in mentioned(name, module, package=package) if other != name}
    started = {name.removesuffix(".__main__") for name in known}  # `python -m package`
    alive = seen | {f"{name}.__main__" for name in started & seen}
    return {name for name, package in known.items() if not package and name not in alive} - ENTRANCES


def test_every_file_is_imported_by_another() -> None:
    modules = [(name, path.name == "__init__.py", tree(path)) for name, path in product().items()]
    lost = orphans(modules)
    assert not lost, f"{sorted(lost)}: nobody imports these. Use them or remove them."


def test_the_orphan_guard_bites() -> None:
    a = ("p.a", False, ast.parse("from p.b import f\nimport_module('p.d')"))
    others = [(f"p.{name}", False, ast.parse("")) for name in "bcd"]
    assert orphans([a, *others]) == {"p.a", "p.c"}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_arrows_between_rooms_point_down() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    done = run(tool, "--no-logo") if "--no-logo" in run(tool, "--help").stdout else run(tool)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_on_pure_modules_names_all_of_them() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    named = set(contracts["importlinter:contract:pure"]["source_modules"].split())
    of_file = {path: name for name, path in product().items()}
    missing = {of_file[path] for path in pure()} - named
    missing = {name for name in missing if not any(name.startswith(f"{one}.") for one in named)}
    assert not missing, f"add to the contract `pure` of .importlinter: {sorted(missing)}"


def imported_by(statement: str) -> set[str]:
    done = run(sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_a_wire_module_brings_no_network_and_no_loop() -> None:
    """`echelon/__init__` runs first whatever is imported below it, so it must be lazy (PEP 562)."""
    heavy = imported_by("import echelon.wire.api, echelon_core.entries") & {
        "nats",
        "asyncio",
        "ssl",
        "socket",
    }
    assert not heavy, (
        f"`import echelon.wire.api` loads {sorted(heavy)}: names in echelon/__init__.py must be lazy."
    )


def test_a_child_needs_no_broker() -> None:
    """What shares a process with user code holds no credentials and no connection."""
    heavy = imported_by("import echelon.child.main") & {"nats", "echelon.client", "echelon.transport"}
    assert not heavy, f"`import echelon.child.main` loads {sorted(heavy)}."


def test_public_names_are_there_and_no_more() -> None:
    done = run(sys.executable, "-c", "import echelon; [getattr(echelon, name) for name in echelon.__all__]")
    assert done.returncode == 0, done.stderr
