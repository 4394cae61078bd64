"""Where an Echelon answers: the argument, the environment, the nearest one that runs, the default port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
_SCHEMES: Final = ("nats", "tls", "ws", "wss")


class Place(NamedTuple):
    """An address to connect to. `tried`: it and what was looked at before, fit to be shown."""

    url: str
    tried: str


class _Run(msgspec.Struct):
    """`run.json` of a running `echelon up`, as far as a client needs it."""

    pid: int
    nats_url: str


def find(url: str | None, environ: Mapping[str, str], folder: Path) -> Place:
    """The first of: `url`, ECHELON_URL or ECHELON_NATS_URL, .echelon/run.json in `folder` or above, 4222."""
    if url:
        return Place(url, f"{shown(url)} (given)")
    looked: list[str] = []
    for name in ("ECHELON_URL", "ECHELON_NATS_URL"):
        if given := environ.get(name):
            if urlsplit(given).scheme in _SCHEMES or "://" not in given:
                return Place(given, f"{shown(given)} ({name})")
            looked.append(f"{name}={shown(given)} (no NATS address)")
    for above in (folder, *folder.parents):
        path = above / ".echelon" / "run.json"
        run = _alive(path)
        if run is not None:
            return Place(run.nats_url, ", ".join([*looked, f"{shown(run.nats_url)} ({path})"]))
    looked.append(f".echelon/run.json in {folder} and above (nothing runs there)")
    return Place(DEFAULT_URL, ", ".join([*looked, f"{DEFAULT_URL} (default)"]))


def shown(url: str) -> str:
    """The addresses, with commas between them, without user and password."""
    parts = [urlsplit(address if "://" in address else f"nats://{address}") for address in url.split(",")]
    return ",".join(f"{part.scheme}://{part.netloc.rpartition('@')[2]}" for part in parts)


def _alive(path: Path) -> _Run | None:
    try:
        run = msgspec.json.decode(path.read_bytes(), type=_Run)
        os.kill(run.pid, 0)
    except PermissionError:
        return None  # another user's file or process
    except (OSError, msgspec.MsgspecError):
        return None
    return run
