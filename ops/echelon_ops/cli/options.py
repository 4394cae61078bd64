"""Options that several commands have, and those that are settings: named, explained and checked in one place,
`echelon_infra.settings`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from echelon_infra.settings import TABLE, Resolved, resolve
from echelon_ops.cli.output import note

Function = TypeVar("Function", bound=Callable[..., Any])

_COLUMNS: Final = 74


def setting(key: str, metavar: str, default: str = "") -> Callable[[Function], Function]:
    """`--key`: overrides the variable and the file. `default` is shown; the table's own if not given."""
    row = TABLE[key]
    flag = "--" + key.replace("_", "-")
    if isinstance(row.default, bool):
        return click.option(flag, key, is_flag=True, default=None, help=row.description)
    shown = default or _shown(row.default)
    return click.option(flag, key, metavar=metavar, default=None, help=f"{row.description} [{shown}]")


def exits(*meanings: str) -> str:
    """The last lines of a help: a code is not torn from its meaning."""
    lines = ["Exit:"]
    for meaning in meanings:
        joined = f"{lines[-1]} {meaning}" if lines[-1] == "Exit:" else f"{lines[-1]} · {meaning}"
        if len(joined) <= _COLUMNS:
            lines[-1] = joined
        else:
            lines.append(meaning)
    return "\n\n".join(lines)


def settings_from(given: dict[str, Any]) -> Resolved:
    """Resolve what was given on the command line with all other sources; notes go to stderr.

    Raises:
        BadSettings: with each problem and its source.
    """
    resolved = resolve({key: value for key, value in given.items() if value is not None})
    for text in resolved.notes:
        note(text)
    return resolved


json_option = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
url_option = click.option("--url", metavar="URL", help="The web node to ask. [ECHELON_URL; the one found]")


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
