"""`echelon demo census`: real work on the machine at hand."""

from __future__ import annotations

import asyncio

import click

from echelon_ops.cli.command import Command, Group
from echelon_ops.cli.options import exits, json_option, settings_from


@click.group(cls=Group)
def demo() -> None:
    """Run a demonstration on what `echelon up` has started."""


@demo.command(
    cls=Command,
    epilog=exits("0 counted", "1 a total differs or a task failed", "3 refused", "5 no server", "6 stopped"),
)
@click.option("--check", is_flag=True, help="Count again in a plain loop and compare the totals.")
@click.option("--nats", "nats_url", metavar="URL", help="The nats-server. [ECHELON_NATS_URL; the one found]")
@json_option
def census(check: bool, nats_url: str | None, as_json: bool) -> int:
    """Count the Python standard library, one task a source file.

    A last task depends on all of them and ranks modules. The files are those of this machine, so the workers
    have to be on it too.
    """
    from echelon_ops.demo.census import take

    resolved = settings_from({"nats_url": nats_url})
    return asyncio.run(take(resolved, check=check, as_json=as_json))
