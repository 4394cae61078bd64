"""What the census counts, without Echelon: the tasks and the plain loop that checks them call the same."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

FIGURES: Final = ("lines", "functions", "classes", "imports")


def source_files(root: Path | None = None) -> Iterator[tuple[str, str]]:
    """(path, module) of each source file of the standard library that is on this machine, sorted.

    `module` is the top-level name: `asyncio` for asyncio/tasks.py.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    for path in sorted(root.rglob("*.py")):
        within = path.relative_to(root)
        if within.parts[0] not in ("site-packages", "dist-packages", "__pycache__"):
            yield str(path), within.parts[0].removesuffix(".py")


def count_file(path: str, module: str = "") -> dict[str, Any]:
    """Figures of one file. A file that does not parse is counted as such: `parsed` is false and says why."""
    source = Path(path).read_bytes()
    found: dict[str, Any] = {"path": path, "module": module, "parsed": True, "lines": source.count(b"\n")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other people's escapes
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {**found, "parsed": False, "reason": f"{type(error).__name__}: {error}"[:200]}
    kinds: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    deepest = 0
    todo: list[tuple[list[ast.stmt], int]] = [(tree.body, 0)]
    while todo:
        block, depth = todo.pop()
        deepest = max(deepest, depth)
        for statement in block:
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    kinds["functions"] += 1
                case ast.ClassDef():
                    kinds["classes"] += 1
                case ast.Import():
                    imported.update(alias.name.partition(".")[0] for alias in statement.names)
                case ast.ImportFrom(level=0, module=str(name)):
                    imported[name.partition(".")[0]] += 1
            todo.extend((inner, depth + deeper) for inner, deeper in _blocks(statement))
    return {
        **found,
        "functions": kinds["functions"],
        "classes": kinds["classes"],
        "imports": imported.total(),
        "imported": dict(imported.most_common()),
        "nesting": deepest,
    }


def _blocks(statement: ast.stmt) -> Iterator[tuple[list[ast.stmt], int]]:
    """The blocks inside a statement, and whether each is deeper. An `elif` stands no deeper than its `if`."""
    for name in ("body", "orelse", "finalbody"):
        if inner := getattr(statement, name, None):
            chained = name == "orelse" and isinstance(statement, ast.If) and isinstance(inner[0], ast.If)
            yield inner, 0 if chained and inner[0].col_offset == statement.col_offset else 1
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body, 1


def report(files: Iterable[Mapping[str, Any]], top: int = 20) -> dict[str, Any]:
    """Totals, modules ranked by lines, and what is imported most. The order of `files` does not matter."""
    totals: Counter[str] = Counter(files=0, unparsable=0, **dict.fromkeys(FIGURES, 0))
    modules: dict[str, Counter[str]] = {}
    imported: Counter[str] = Counter()
    nesting: dict[str, int] = {}
    deepest = (0, "")
    for file in files:
        totals["files"] += 1
        module = modules.setdefault(file["module"], Counter())
        module["files"] += 1
        if not file["parsed"]:
            totals["unparsable"] += 1
            totals["lines"] += file["lines"]
            module["lines"] += file["lines"]
            continue
        for figure in FIGURES:
            totals[figure] += file[figure]
            module[figure] += file[figure]
        imported.update(file["imported"])
        nesting[file["module"]] = max(nesting.get(file["module"], 0), file["nesting"])
        deepest = max(deepest, (file["nesting"], file["path"]))
    ranked = sorted(modules, key=lambda name: (-modules[name]["lines"], name))
    most = sorted(imported, key=lambda name: (-imported[name], name))
    return {
        "totals": dict(totals),
        "deepest": {"nesting": deepest[0], "path": deepest[1]},
        "modules": [
            {"module": name, **modules[name], "nesting": nesting.get(name, 0)} for name in ranked[:top]
        ],
        "imported": [[name, imported[name]] for name in most[:top]],
    }
