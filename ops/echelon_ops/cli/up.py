"""`echelon up`: a whole Echelon on this machine."""

from __future__ import annotations

from typing import Any

import click

from echelon_ops.address import exposure
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, setting, settings_from
from echelon_ops.cli.output import Failure, note


@command(
    epilog=exits(
        "0 stopped",
        "2 bad arguments or app",
        "3 port or folder in use",
        "5 nats-server does not start",
        "6 stopped at once",
    )
)
@setting("app", "FILE|MODULE", "the demo's tasks")
@setting("regions", "NAMES|N")
@setting("workers", "N")
@setting("processes", "N", "cores ÷ workers")
@setting("concurrency", "N")
@setting("data", "FOLDER")
@setting("host", "ADDRESS")
@setting("port", "N", "8000, else the next free")
@setting("insecure", "")
@click.option("--nats", "nats_url", metavar="URL", help="Use this nats-server; none is started.")
@setting("drain_timeout", "SECONDS", "8")
@setting("log_level", "LEVEL")
def up(**given: Any) -> int:
    """Start a whole Echelon on this machine, and keep it running.

    A nats-server, a master, regional schedulers, workers and the web server, each a process of its own.
    Ctrl-C lets running tasks end and stops within 10 seconds; twice, stops at once. Everything is kept: what
    is not finished goes on at the next start.

    \b
    $ echelon up
    $ echelon up --app tasks.py --regions eu,us --workers 2
    """
    resolved = settings_from(given)
    said, may = exposure(resolved.settings.host, insecure=resolved.settings.insecure)
    if not may:
        raise Failure(said)
    if said:
        note(said)
    from echelon_ops.up import main

    return main(resolved)
