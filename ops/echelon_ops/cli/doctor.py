"""`echelon doctor`: what is wrong, and what mends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from echelon_infra.process import NO_SERVER
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, json_option, settings_from, url_option
from echelon_ops.cli.output import show_json

WRONG = 1


@command(epilog=exits("0 all is well", "1 something is wrong", "5 no server"))
@click.option("--nats", "nats_url", metavar="URL", help="The nats-server. [ECHELON_NATS_URL; the one found]")
@url_option
@json_option
def doctor(nats_url: str | None, url: str | None, as_json: bool) -> int:
    """Check server, streams, clocks, versions, leaders, workers and web.

    Whatever is not well is said with what mends it.
    """
    from echelon_ops.doctor import examine
    from echelon_ops.find import nats_address, web_address
    from echelon_ops.folder import nearest

    resolved = settings_from({"nats_url": nats_url})
    nats = nats_address(resolved).address
    run = nearest(Path.cwd())
    if run is not None and run.nats_url != nats:
        run = None  # another one runs here; it is not what we were asked about
    found = asyncio.run(examine(nats, web_address(url, resolved).address, run))
    for finding in found:
        if as_json:
            show_json(msgspec.to_builtins(finding))
            continue
        print(f"{finding.state:<5} {finding.about:<10} {finding.said}")
        if finding.mend:
            print(f"{'':<16} → {finding.mend}")
    bad = [finding for finding in found if finding.state == "bad"]
    if any(finding.said.startswith("nothing answers") for finding in bad):
        return NO_SERVER
    return WRONG if bad else 0
