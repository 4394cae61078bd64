"""Where an Echelon answers: the argument, the settings, the nearest that runs here, the default ports."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from echelon_infra.settings import TABLE, Resolved
from echelon_ops.folder import NAME, Run, nearest

DEFAULT_URL: Final = "http://127.0.0.1:8000"


class Place(msgspec.Struct, frozen=True):
    """An address, why that one, and what else was looked at: said when nothing answers there."""

    address: str
    tried: tuple[str, ...]


def web_address(argument: str | None, resolved: Resolved, folder: Path | None = None) -> Place:
    """The web node to ask."""
    if argument:
        return Place(argument.rstrip("/"), (f"{argument} (given)",))
    if resolved.settings.url.startswith("http"):  # an application may have a nats:// address there
        url = resolved.settings.url.rstrip("/")
        return Place(url, (f"{url} ({resolved.origins['url']})",))
    run, looked = _nearest(folder)
    if run is not None:
        return Place(run.url, (f"{run.url} (runs in {run.data})",))
    return Place(DEFAULT_URL, (looked, f"{DEFAULT_URL} (default)"))


def nats_address(resolved: Resolved, folder: Path | None = None) -> Place:
    """The nats-server to connect to, with user and password."""
    settings = resolved.settings
    if "nats_url" in resolved.origins:
        return Place(settings.nats_url, (f"the nats-server given by {resolved.origins['nats_url']}",))
    run, looked = _nearest(folder)
    if run is not None:
        return Place(run.nats_url, (f"the nats-server of {run.data}",))
    default = str(TABLE["nats_url"].default)
    return Place(default, (looked, f"{default} (default)"))


def _nearest(folder: Path | None) -> tuple[Run | None, str]:
    here = Path.cwd() if folder is None else folder
    return nearest(here), f"{NAME} in {here} and above (nothing runs there)"
