"""Gathers what the judge needs: the clients' history, the handlers' journal, the kills, the API's last word.

Also which executions were reported: the outcomes streams are read for the tokens in results and errors. That
is the one look behind the API, and it only makes the judge stricter: what was reported may not be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from e2e.checker import Asked, Evidence, Final, Kill, Read, parse_journal
from echelon.wire.api import Get, get_answer
from echelon.wire.child import ERROR, OK, outcomes
from echelon.wire.codec import pack
from echelon.wire.names import GET
from echelon_core import names
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import connect
from support.cluster import Cluster

HISTORY, JOURNAL, KILLS, FINAL, REPORTED = "history", "journal", "kills", "final", "reported"
IDS_PER_REQUEST = 200
PAGE = 1000


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path) as file:
        yield from map(json.loads, file)


def asked(history: Iterable[dict[str, Any]]) -> Iterator[Asked]:
    """One for each task: the last word on it. What was invoked and never spoken of is unknown."""
    last: dict[tuple[str, int], Asked] = {}
    for line in history:
        if line["kind"] == "invoke":
            made = Asked(line["client"], line["task"], "info", "", tuple(line["after"]))
            last[made.client, made.task] = made
        elif line["kind"] in ("ok", "fail", "info"):
            key = line["client"], line["task"]
            last[key] = last[key]._replace(kind=line["kind"], id=line.get("id", ""))
    return iter(last.values())


def load(folder: Path) -> Evidence:
    history = list(lines(folder / HISTORY))
    return Evidence(
        asked=list(asked(history)),
        reads=[Read(line["id"], line["result"]) for line in history if line["kind"] == "read"],
        executions=parse_journal((folder / JOURNAL).read_text().splitlines()),
        final=[Final(**line) for line in lines(folder / FINAL)],
        kills=[Kill(**line) for line in lines(folder / KILLS)],
        reported=set((folder / REPORTED).read_text().split()),
    )


async def every_id(cluster: Cluster) -> list[str]:
    """All tasks that the API lists, once nothing moves any more."""
    ids: list[str] = []
    while True:
        page = await cluster.get(f"/api/tasks?limit={PAGE}&offset={len(ids)}")
        ids += [task["task_id"] for task in page["items"]]
        if len(page["items"]) < PAGE:
            return ids


async def write_final(nats_url: str, ids: Sequence[str], path: Path) -> None:
    """The API's last word on each task."""
    bus = await connect(nats_url, "evidence")
    with open(path, "w") as file:  # noqa: ASYNC230
        for start in range(0, len(ids), IDS_PER_REQUEST):
            asked = pack(Get(list(ids[start : start + IDS_PER_REQUEST])))
            for answer in get_answer(await bus.request(GET, asked, timeout_s=30)):
                if answer:
                    task = json.loads(answer)
                    line = {"id": task["task_id"], "status": task["status"], "result": task["result"]}
                    file.write(json.dumps(line) + "\n")
    await bus.close()


async def write_reported(nats_url: str, regions: Iterable[str], path: Path) -> None:
    """The tokens of all executions whose report is durable."""
    bus = await connect(nats_url, "evidence")
    try:
        with open(path, "w") as file:  # noqa: ASYNC230
            for region in regions:
                stream = names.outcomes(region)
                end = await topology.last_sequence(bus, stream)
                async for entries in tail.read(bus, stream, after=0, upto=end):
                    for entry in entries:
                        file.writelines(f"{token}\n" for token in tokens(entry.data))
    finally:
        await bus.close()


def tokens(message: bytes) -> Iterator[str]:
    for ran in outcomes(message).ran:
        if ran.status == OK:
            yield str(json.loads(ran.result)["token"])
        elif ran.status == ERROR and ran.error is not None:
            yield ran.error.message
