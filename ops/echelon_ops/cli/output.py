"""What commands print: results on stdout (a table, or with `--json` one object or JSON lines), the rest on
stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from echelon_infra.process import BAD_INPUT


class Failure(Exception):
    """A command cannot do what was asked. `code`: the exit code; `document`: a problem document, if any."""

    def __init__(
        self, message: str, code: int = BAD_INPUT, document: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.document = document


def complain(failure: Failure, *, as_json: bool) -> None:
    """On stderr: sentences for people, the problem document for programs."""
    if as_json:
        document = failure.document or {"detail": str(failure), "exit": failure.code}
        print(json.dumps(document, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"echelon: {failure}", file=sys.stderr)


def show_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    print(text, file=sys.stderr)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    >>> print(table(("ID", "N"), [("a", 1), ("bcd", None)]))
    ID   N
    a    1
    bcd  –
    """
    cells = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, dict):
        return " ".join(f"{name}:{each}" for name, each in value.items()) or "–"
    return str(value)
