"""`echelon config`: every setting, its value, and where that came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, json_option, settings_from
from echelon_ops.cli.output import show_json, table


@command(epilog=exits("0 shown", "2 a setting cannot be used"))
@json_option
def config(as_json: bool) -> int:
    """Show every setting with its value, unit and origin.

    Defaults are overridden by echelon.toml, that by .env, that by the environment, that by flags.
    """
    from echelon_infra.settings import TABLE
    from echelon_ops.address import without_password

    resolved = settings_from({})
    rows = []
    for key, row in TABLE.items():
        value = getattr(resolved.settings, row.field)
        shown: Any = value
        if isinstance(value, tuple):
            shown = ",".join(value)
        elif isinstance(value, Path):
            shown = str(value)
        if row.field in ("nats_url", "url"):
            shown = without_password(shown)
        rows.append((key, shown, row.unit, resolved.origins.get(row.field, "default"), row.description))
    if as_json:
        for key, shown, unit, origin, description in rows:
            show_json(
                {"key": key, "value": shown, "unit": unit, "origin": origin, "description": description}
            )
    else:
        print(table(("KEY", "VALUE", "UNIT", "ORIGIN"), [row[:4] for row in rows]))
    return 0
