"""`echelon master`, `regional`, `worker`, `web`: one tier in this process, for more than one machine."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from echelon_infra.settings import Settings
from echelon_ops.address import exposure
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, setting, settings_from
from echelon_ops.cli.output import Failure, note
from echelon_ops.find import nats_address

_nats = click.option(
    "--nats", "nats_url", metavar="URL", help="The nats-server. [ECHELON_NATS_URL; the one found]"
)
_EXIT = exits("0 drained", "2 bad arguments", "5 no server", "6 stopped twice")


def _settings(given: dict[str, Any]) -> Settings:
    resolved = settings_from(given)
    settings = resolved.settings
    if "log_format" not in resolved.origins and sys.stderr.isatty():
        settings = msgspec.structs.replace(settings, log_format="text")
    if "nats_url" not in resolved.origins:
        settings = msgspec.structs.replace(settings, nats_url=nats_address(resolved).address)
    return msgspec.structs.replace(settings, data=settings.data.resolve())


def _start(tier: str, settings: Settings) -> int:
    from echelon_ops.tier import start

    return start(tier, settings)


@command(epilog=_EXIT)
@_nats
@setting("data", "FOLDER")
@setting("replicas", "1|3|5")
@setting("log_level", "LEVEL")
def master(**given: Any) -> int:
    """Run a master: it admits tasks and places them in regions.

    Start as many as you like: one leads, the others stand by.
    """
    return _start("master", _settings(given))


@command(epilog=_EXIT)
@setting("region", "NAME")
@_nats
@setting("replicas", "1|3|5")
@setting("log_level", "LEVEL")
def regional(**given: Any) -> int:
    """Run the scheduler of one region.

    Start as many as you like: one leads, the others stand by.

    \b
    $ echelon regional --region east
    """
    return _start("regional", _settings(given))


@command(epilog=exits("0 drained", "2 bad arguments or app", "5 no server", "6 stopped twice"))
@setting("app", "FILE|MODULE", "required")
@setting("region", "NAME")
@setting("pool", "NAME")
@setting("processes", "N", "cores")
@setting("concurrency", "N")
@setting("worker_id", "NAME", "one is made")
@setting("drain_timeout", "SECONDS")
@_nats
@setting("log_level", "LEVEL")
def worker(**given: Any) -> int:
    """Run the tasks of one region on this machine.

    Takes work only while it has a free slot, so start as many as you like. Ctrl-C lets running tasks end and
    gives back the rest; twice, gives back all.

    \b
    $ echelon worker --app tasks.py
    $ echelon worker --app shop.jobs --region east --processes 4
    """
    import os

    from echelon_ops.up import Refused, app_of, sync_processes

    settings = _settings(given)
    if not settings.app:
        raise Failure("--app is missing: say where your @task functions are, as a file or module.")
    try:
        app = app_of(settings.app)
    except Refused as refused:
        raise Failure(str(refused), refused.code) from None
    processes = sync_processes(settings.processes, 1, os.cpu_count() or 1)
    return _start("worker", msgspec.structs.replace(settings, app=app, processes=processes))


@command(epilog=_EXIT)
@setting("host", "ADDRESS")
@setting("port", "N")
@setting("insecure", "")
@setting("data", "FOLDER")
@_nats
@setting("log_level", "LEVEL")
def web(**given: Any) -> int:
    """Run a web node: the HTTP API and the dashboard, with a read model of its own.

    \b
    $ echelon web --port 8080
    """
    settings = _settings(given)
    said, may = exposure(settings.host, insecure=settings.insecure)
    if not may:
        raise Failure(said)
    if said:
        note(said)
    return _start("web", settings)
