"""What the overview shows: a verdict first, then the numbers that prove it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from litestar import Request, Response, get
from markupsafe import Markup

from echelon_core.life import LIVE, Stage
from echelon_web.api.shape import error_json
from echelon_web.draw import flow, lines
from echelon_web.fleet import Fleet
from echelon_web.node import Node
from echelon_web.pages import render, words
from echelon_web.pages.frame import opened
from echelon_web.pages.overview.rates import Rates
from echelon_web.pages.overview.verdict import GROWS_PER_MIN, Facts, verdict
from echelon_web.pages.tasks.page import rows_of
from echelon_web.readmodel import query

TEMPLATE: Final = "overview/rows.html"
PARTS: Final = ("verdict", "numbers", "flow", "inout", "failures", "workers", "latest")
LATEST: Final = 10
FAILURES: Final = 6
GOAL_AGE_S: Final = 60.0
GOAL_OK: Final = 0.99
GOAL_BUSY: Final = 0.9
_ROW_UNITS: Final = 72


@get(["/ui/", "/ui"])
async def overview(request: Request[Any, Any, Any], node: Node) -> Response[str]:
    await node.fresh()
    newest = query.tasks(node.db, None, 1)
    top = newest[0].ref if newest else 0
    context = opened(request, node, "overview", "Overview", f"page=overview&top={top}")
    return render.page("overview/page.html", {**context, **view(node, top)})


def view(node: Node, top: int) -> dict[str, Any]:
    """The context of every part. Tasks newer than `top` are counted, not shown."""
    now, fleet, db = node.now(), node.fleet, node.db
    rates = Rates(query.rates(db, now - 3600), now)
    counts = query.counts(db)
    facts = _facts(node, now, rates, counts)
    return {
        "now": now,
        "verdict": verdict(facts),
        "facts": facts,
        "numbers": _numbers(facts, rates, fleet),
        "master": _master(fleet, now, rates),
        "regions": _regions(node, now, rates),
        "chart": _chart(rates),
        "failures": _failures(node),
        "workers": [_worker(worker, now) for worker in fleet.everybody()],
        **rows_of(node, None, LATEST, top, now),
    }


def _facts(node: Node, now: float, rates: Rates, counts: dict[Stage, int]) -> Facts:
    fleet = node.fleet
    oldest = query.oldest_ready(node.db)
    waiting_types = query.pending_types(node.db, 5000)
    living = fleet.living()
    return Facts(
        now=now,
        tasks=sum(counts.values()),
        pending=sum(counts.get(stage, 0) for stage in LIVE if stage is not Stage.RUNNING),
        failed=counts.get(Stage.FAILED, 0) + counts.get(Stage.EXPIRED, 0),
        leads=fleet.leads(now),
        silent_regions=tuple(name for name in fleet.names() if _silent(fleet, name, now)),
        regions=len(fleet.names()),
        silent_workers=tuple(worker.info.id for worker in fleet.everybody() if worker.gone),
        workers=len(living),
        busy=sum(worker.busy for worker in living),
        slots=sum(worker.slots for worker in living),
        homeless=tuple((kind, count) for kind, count in waiting_types.items() if not fleet.offers(kind)),
        oldest_s=max(0.0, now - oldest.submitted.created) if oldest else 0.0,
        came=rates.mean("admitted", 60),
        went=rates.mean("ended", 60),
        succeeded=rates.total("completed", 900),
        failed_lately=rates.total("failed", 900),
        failed_hour=rates.total("failed", 3600),
        cut_off=not node.bus.is_connected,
    )


def _silent(fleet: Fleet, name: str, now: float) -> bool:
    region = fleet.regions.get(name)
    return region is None or region.silent(now)


class Number(NamedTuple):
    """One of the five: its goal stands beside it. `status`: the tasks that it speaks of."""

    label: str
    value: str
    unit: str
    health: str
    word: str
    series: list[float]
    note: str
    status: str

    def spark(self) -> Markup:
        return lines.spark(self.series, self.health)


def _numbers(facts: Facts, rates: Rates, fleet: Fleet) -> list[Number]:
    ended = facts.succeeded + facts.failed_lately
    share = facts.succeeded / ended if ended else 1.0
    net = (facts.came - facts.went) * 60
    late = facts.oldest_s > GOAL_AGE_S
    full = facts.slots and facts.busy >= GOAL_BUSY * facts.slots
    if facts.pending == 0:
        drain = "nothing waits"
    elif net >= 0 or facts.pending < 100:
        drain = f"{words.plural(facts.pending, 'task')} waiting"
    else:
        drain = f"{facts.pending:,} waiting, drained in {words.duration(facts.pending / -net * 60)}"
    return [
        Number(
            "Oldest ready task",
            words.duration(facts.oldest_s) if facts.oldest_s else "none",
            "",
            *(("warn", "missed") if late else ("ok", "met")),
            [],
            "Goal 60 s until it begins",
            "pending",
        ),
        Number(
            "Net backlog",
            f"{net:+,.0f}".replace("-", "\N{MINUS SIGN}") if round(net) else "0",
            "/min",
            *(("warn", "grows") if net > GROWS_PER_MIN else ("ok", "steady")),
            rates.backlog(facts.pending),
            drain,
            "pending",
        ),
        Number(
            "Succeeded, 15 min",
            f"{100 * share:.4g}" if ended else "none",
            "%" if ended else "",
            *(("ok", "met") if share >= GOAL_OK else ("bad", "missed")),
            rates.series("completed"),
            f"Goal 99 %, of {words.plural(ended, 'task')}",
            "completed",
        ),
        Number(
            "Slots busy",
            words.count(facts.busy),
            f"of {facts.slots:,}",
            *(("warn", "near") if full else ("ok", "met") if facts.slots else ("warn", "none")),
            list(fleet.load),
            "Goal at most 90 %",
            "running",
        ),
        Number(
            "Failed, 1 h",
            words.count(facts.failed_hour),
            "",
            *(("warn", "look") if facts.failed_hour else ("ok", "met")),
            rates.series("failed"),
            f"{facts.failed:,} in all",
            "failed",
        ),
    ]


def _master(fleet: Fleet, now: float, rates: Rates) -> dict[str, Any]:
    return {
        "leads": fleet.leads(now),
        "epoch": fleet.master.epoch if fleet.master else None,
        "position": fleet.master.position if fleet.master else None,
        "admitted": words.rate(rates.mean("admitted", 30)),
        "settled": words.rate(rates.mean("ended", 30)),
    }


def _regions(node: Node, now: float, rates: Rates) -> dict[str, Any]:
    fleet = node.fleet
    names = fleet.names()
    placed = {name: rates.mean("placed", 30, name) for name in names}
    ended = {name: rates.mean("ended", 30, name) for name in names}
    most = max([*placed.values(), *ended.values(), 0.0])
    made = []
    for name in names:
        region, workers = fleet.regions.get(name), fleet.everybody(name)
        silent = _silent(fleet, name, now)
        living = [worker for worker in workers if not worker.gone]
        room = region.room if region else None
        made.append(
            {
                "name": name,
                "silent": silent,
                "never": region is None,
                "epoch": room.epoch if room else None,
                "depth": room.waiting + room.outstanding + room.retrying if room else 0,
                "released": room.outstanding if room else 0,
                "retrying": room.retrying if room else 0,
                "spark": lines.spark(rates.depth(name, room.waiting + room.outstanding if room else 0)),
                "placed": words.rate(placed[name]),
                "placed_arrow": flow.arrow(placed[name], most),
                "ended": words.rate(ended[name]),
                "ended_arrow": flow.arrow(ended[name], most),
                "cells": flow.cells([(worker.busy, worker.slots, worker.state) for worker in workers]),
                "up": len(living),
                "gone": len(workers) - len(living),
                "busy": sum(worker.busy for worker in living),
                "slots": sum(worker.slots for worker in living),
                "held": _held(silent, living, room.waiting if room else 0),
            }
        )
    return {"rows": made, "links": flow.links([placed[name] for name in names], _ROW_UNITS)}


def _held(silent: bool, living: list[Any], waiting: int) -> list[tuple[str, str]]:
    """What holds a region back: (health, words)."""
    held = []
    if silent:
        held.append(("bad", "no scheduler"))
    if not living:
        held.append(("bad" if waiting else "warn", "no worker"))
    elif waiting and all(worker.busy >= worker.slots for worker in living):
        held.append(("warn", "no free slot"))
    return held


def _chart(rates: Rates) -> dict[str, Any]:
    came, went = rates.series("admitted"), rates.series("ended")
    top = lines.nice(max([*came, *went, 0.0]))
    return {
        "drawing": lines.in_and_out(came, went, top),
        "top": words.rate(top),
        "half": words.rate(top / 2),
        "hours": rates.labels(),
        "came": words.rate(rates.mean("admitted", 60)),
        "went": words.rate(rates.mean("ended", 60)),
        "most_came": words.rate(max(came, default=0.0)),
        "most_went": words.rate(max(went, default=0.0)),
        "table": rates.table(),
    }


def _failures(node: Node) -> list[dict[str, Any]]:
    found = query.with_attempts(node.db, query.tasks(node.db, "failed", FAILURES))
    return [{"task": task, "error": error_json(task), "at": task.row.ended} for task in found]


def _worker(worker: Any, now: float) -> dict[str, Any]:
    share = worker.busy / worker.slots if worker.slots else 0.0
    return {
        "worker": worker,
        "meter": flow.meter(share),
        "age": max(0.0, now - worker.at),
        "up_s": max(0.0, now - worker.info.started_at),
        "types": sorted(worker.info.types),
    }
