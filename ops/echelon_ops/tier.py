"""One tier in this process: what the supervisor starts, and what `echelon master` and its like end in.

`python -m echelon_ops.tier worker NAME` with the resolved settings in the environment; the name is for `ps`.
Imports are most of a start, so this knows nothing of command lines: only the tier named is loaded.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

from echelon_infra.process import BAD_INPUT, PARENT, die_with_parent
from echelon_infra.settings import HANDED_DOWN, Settings, handed_down

TIERS: Final = {
    "master": "echelon_master.run",
    "regional": "echelon_regional.run",
    "worker": "echelon_worker.run",
    "web": "echelon_web.run",
}


def start(tier: str, settings: Settings) -> int:
    """Run a tier until it is told to stop; its exit code.

    Logs carry the region and, where it has a name, the worker.
    """
    from echelon_infra.telemetry import logs

    named = {"region": settings.region} if tier in ("regional", "worker") else {}
    if tier == "worker" and settings.worker_id:
        named["worker"] = settings.worker_id
    logs.configure(settings.log_level, settings.log_format, named)
    code: int = import_module(TIERS[tier]).main(settings)
    return code


def main() -> int:
    die_with_parent()
    settings = handed_down()
    if len(sys.argv) != 3 or sys.argv[1] not in TIERS or settings is None:
        print(
            f"Started by `echelon up`, with {HANDED_DOWN} set; by hand use `echelon TIER`.", file=sys.stderr
        )
        return BAD_INPUT
    # Whatever this process starts is not `up`'s child.
    os.environ.pop(HANDED_DOWN, None)
    os.environ.pop(PARENT, None)
    return start(sys.argv[1], settings)


if __name__ == "__main__":
    sys.exit(main())
