"""`echelon workers`, `regions`: who works, and where."""

from __future__ import annotations

from echelon_ops.cli.api import Api
from echelon_ops.cli.command import command
from echelon_ops.cli.options import exits, json_option, url_option
from echelon_ops.cli.output import show_json, table

_EXIT = exits("0 shown", "5 no server")


@command(epilog=_EXIT)
@json_option
@url_option
def workers(as_json: bool, url: str | None) -> int:
    """List workers: where they are, what they have room for and what they do."""
    return _list("/workers", url, as_json, WORKER_COLUMNS)


@command(epilog=_EXIT)
@json_option
@url_option
def regions(as_json: bool, url: str | None) -> int:
    """List regions: who leads, what waits and how fast it goes."""
    return _list("/regions", url, as_json, REGION_COLUMNS)


WORKER_COLUMNS = {
    "WORKER": "worker_id",
    "REGION": "region",
    "POOL": "pool",
    "STATUS": "status",
    "BUSY": "busy",
    "SLOTS": "slots",
    "CPU %": "cpu_usage",
    "MEMORY %": "memory_usage",
    "HOST": "host",
    "PID": "pid",
}
REGION_COLUMNS = {
    "REGION": "region",
    "STATUS": "status",
    "WORKERS": "workers",
    "SLOTS": "slots",
    "WAITING": "waiting",
    "RELEASED": "outstanding",
    "RETRYING": "retrying",
    "PER SECOND": "completed_per_s",
}


def _list(path: str, url: str | None, as_json: bool, columns: dict[str, str]) -> int:
    items = Api(url).get(path)["items"]
    if as_json:
        for item in items:
            show_json(item)
    else:
        print(table(list(columns), [[item.get(field) for field in columns.values()] for item in items]))
    return 0
