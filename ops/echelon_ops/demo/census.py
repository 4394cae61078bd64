"""Takes the census: submits a task a source file and one that ranks, watches them, prints what was found."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from echelon import Client, Handle
from echelon.errors import EchelonError, TaskCancelled, TaskExpired, TaskFailed
from echelon_infra.process import BAD_INPUT, NO_SERVER
from echelon_infra.settings import Resolved
from echelon_ops.cli.output import Failure, note, show_json, table
from echelon_ops.demo.app import census_file, census_report
from echelon_ops.demo.count import count_file, report, source_files
from echelon_ops.find import Place, nats_address, web_address
from echelon_ops.ports import answers

PATIENCE_S: Final = 20.0
"""`echelon up` may have been typed just before."""
REPORT_S: Final = 300.0
DIFFERS: Final = 1
_BAR: Final = 32


class Progress:
    """A bar on stderr where that is a terminal, a line each quarter elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._drawn = total, 0, 0.0
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def one_more(self) -> None:
        self._done += 1
        now = time.monotonic()
        ended = self._done == self._total
        if self._terminal and (ended or now - self._drawn > 0.1):
            self._drawn = now
            filled = _BAR * self._done // self._total
            rate = self._done / max(now - self._begun, 1e-9)
            bar = "█" * filled + "░" * (_BAR - filled)
            sys.stderr.write(f"\r{bar} {self._done:,} of {self._total:,} · {rate:,.0f}/s \x1b[K")
            if ended:
                sys.stderr.write("\n")
            sys.stderr.flush()
        elif not self._terminal and 4 * self._done // self._total > 4 * (self._done - 1) // self._total:
            note(f"{self._done:,} of {self._total:,} files counted")


async def take(resolved: Resolved, *, check: bool, as_json: bool) -> int:
    """The exit code.

    Raises:
        Failure: no server, a refusal, or a task that failed.
    """
    place = await _server(resolved)
    files = list(source_files())
    begun = time.monotonic()
    try:
        async with Client(place.address) as client:
            final = await _submit(client, files, web_address(None, resolved).address)
            found: dict[str, Any] = await final.result(REPORT_S)
    except (TaskFailed, TaskCancelled, TaskExpired) as error:
        raise Failure(str(error), DIFFERS) from None
    except EchelonError as error:
        raise Failure(str(error), NO_SERVER if error.status == 503 else BAD_INPUT) from None
    took_s = time.monotonic() - begun
    differences = _differences(found["totals"], files) if check else None
    if as_json:
        show_json({**found, "task_id": final.id, "seconds": round(took_s, 3), "differences": differences})
    else:
        print(shown(found, took_s))
        note(f"\nThe report: {web_address(None, resolved).address}/ui/tasks/{final.id}")
        if differences is not None:
            for line in differences or ["A plain loop in one process found the same totals."]:
                note(line)
    return DIFFERS if differences else 0


async def _submit(client: Client, files: Sequence[tuple[str, str]], web: str) -> Handle[Any]:
    """Submit all, wait until every file is counted; the handle of the report."""
    progress = Progress(len(files))
    counts = [
        handle
        async for handle in client.submit_many(
            census_file.bind(path=path, module=module) for path, module in files
        )
    ]
    final = await client.submit(census_report.options(dependencies=counts))
    note(f"{len(files):,} files and a report that depends on them are submitted. Watch: {web}/ui/")
    async for _ in client.as_completed(counts):
        progress.one_more()
    return final


async def _server(resolved: Resolved) -> Place:
    """Where the server is; waits a little for one that is just being started.

    Raises:
        Failure: there is none.
    """
    until = time.monotonic() + PATIENCE_S
    told = False
    while True:
        place = nats_address(resolved, Path.cwd())
        if answers(place.address):
            return place
        if time.monotonic() > until:
            tried = "; ".join(place.tried)
            raise Failure(f"No Echelon answers. Tried: {tried}. Start one with `echelon up`.", NO_SERVER)
        if not told:
            note(f"No Echelon answers yet; waiting up to {PATIENCE_S:.0f} s for one to start.")
            told = True
        await asyncio.sleep(0.2)


def _differences(totals: Mapping[str, int], files: Sequence[tuple[str, str]]) -> list[str]:
    """What a plain loop over the same files finds otherwise, a line each."""
    note("Counting again, in a plain loop.")
    plain: dict[str, int] = report(count_file(path, module) for path, module in files)["totals"]
    return [
        f"{figure}: the census found {totals.get(figure):,}, a plain loop {count:,}"
        for figure, count in plain.items()
        if totals.get(figure) != count
    ]


def shown(found: Mapping[str, Any], took_s: float) -> str:
    """The ranking and the totals for a person."""
    columns = ("module", "files", "lines", "functions", "classes", "imports", "nesting")
    rows = [[_grouped(each.get(column, 0)) for column in columns] for each in found["modules"]]
    totals = found["totals"]
    most = ", ".join(f"{name} ({times:,})" for name, times in found["imported"][:8])
    deepest = found["deepest"]
    return "\n".join(
        [
            table([column.upper() for column in columns], rows),
            "",
            f"{totals['files']:,} files in {took_s:.1f} s: {totals['lines']:,} lines, "
            f"{totals['functions']:,} functions, {totals['classes']:,} classes, "
            f"{totals['imports']:,} imports; {totals['unparsable']} files do not parse",
            f"imported most: {most}",
            f"deepest nesting: {deepest['nesting']} in {deepest['path']}",
        ]
    )


def _grouped(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
