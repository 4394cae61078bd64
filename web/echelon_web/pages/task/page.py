"""What the page of one task shows: the sentence first, then where its time went and what happened."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from echelon.errors import EchelonError, NotFound
from echelon.wire.api import DEFAULTS, Refusal
from echelon.wire.names import CANCEL, RETRY
from echelon_core import names
from echelon_core.life import LIVE, Stage
from echelon_core.runs import sequence_of
from echelon_web.api.answer import COUNTED, why
from echelon_web.api.shape import attempt_number, completed_at, error_json, ran_ms
from echelon_web.draw import graph, history
from echelon_web.node import Node
from echelon_web.pages import render, words
from echelon_web.pages.frame import opened
from echelon_web.readmodel import content, query
from echelon_web.readmodel.query import Task

TEMPLATE: Final = "task/rows.html"
PARTS: Final = ("head", "because", "spent", "attempts", "error", "events", "facts", "needs", "content")
SHOWN_BYTES: Final = 16 * 1024
"""A larger payload or result is a link."""


@get("/ui/tasks/{name:str}")
async def task_page(request: Request[Any, Any, Any], node: Node, name: str) -> Response[Any]:
    return await _page(request, node, name, None)


@post("/ui/tasks/{name:str}/cancel")
async def cancel(request: Request[Any, Any, Any], node: Node, name: str) -> Response[Any]:
    return await _act(request, node, name, CANCEL)


@post("/ui/tasks/{name:str}/retry")
async def retry(request: Request[Any, Any, Any], node: Node, name: str) -> Response[Any]:
    return await _act(request, node, name, RETRY)


@get("/ui/tasks/{name:str}/payload")
async def payload(node: Node, name: str) -> Response[bytes]:
    await node.fresh()
    task = _find(node, name)
    return _text(await content.payload(node.bus, node.blobs, task), "payload", name)


@get("/ui/tasks/{name:str}/result")
async def result(node: Node, name: str) -> Response[bytes]:
    await node.fresh()
    task = _find(node, name)
    return _text(await content.result(node.bus, node.blobs, task), "result", name)


def _text(found: bytes | None, what: str, name: str) -> Response[bytes]:
    if found is None:
        raise NotFound(what, name)
    return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})


def _find(node: Node, name: str) -> Task:
    task = query.task(node.db, name)
    if task is None:
        raise NotFound("task", name[:128])
    return task


async def _act(request: Request[Any, Any, Any], node: Node, name: str, subject: str) -> Response[Any]:
    try:
        position, _ = await node.commands.act(subject, name, "from the dashboard")
    except EchelonError as error:
        return await _page(request, node, name, error.refusal())
    await node.fresh(position)
    return Redirect(f"/ui/tasks/{name}", status_code=303)


async def _page(
    request: Request[Any, Any, Any], node: Node, name: str, refusal: Refusal | None
) -> Response[Any]:
    await node.fresh()
    task = query.task(node.db, name)
    if task is None:
        context = opened(request, node, "tasks", "Not found", "page=tasks&status=&offset=0&top=0")
        return render.page("task/missing.html", {**context, "missing": name}, 404)
    context = opened(request, node, "tasks", task.type, f"page=task&id={task.id}")
    context |= {**await view(node, task), "refusal": refusal}
    return render.page("task/page.html", context, refusal.status if refusal else 200)


async def view(node: Node, task: Task) -> dict[str, Any]:
    """The context of every part."""
    now, row = node.now(), task.row
    end = completed_at(task) or row.ended or now
    end = max(end, task.submitted.created)
    spent = history.parts(task, end)
    shares = history.shares(spent)
    guilty = max(shares, key=lambda share: share.seconds).kind if shares else ""
    options = task.submitted.options or DEFAULTS
    stage = task.stage(now)
    return {
        "now": now,
        "task": task,
        "stage": stage,
        "live_task": task.live,
        "can_retry": stage in (Stage.FAILED, Stage.CANCELLED, Stage.EXPIRED),
        "because": _because(node, task, now, stage, end),
        "spent_s": end - task.submitted.created,
        "bar": history.bar(spent, guilty) if spent else None,
        "shares": [(share, history.swatch(share.kind, guilty)) for share in shares],
        "guilty": next((share for share in shares if share.kind == guilty), None),
        "drawing": history.runs(task, end, now)
        if len(task.attempts) > 1 or stage is Stage.RETRYING
        else None,
        "attempts": [_attempt(task, number) for number in range(len(task.attempts), 0, -1)],
        "error": error_json(task) if stage in (Stage.FAILED, Stage.EXPIRED) else None,
        "options": options,
        "attempt": attempt_number(task),
        "events": _events(task),
        **_neighbours(node, task, stage),
        **await _content(node, task),
    }


def _because(node: Node, task: Task, now: float, stage: Stage, end: float) -> dict[str, Any]:
    """The sentence: (health, text), and facts that would change it."""
    row = task.row
    options = task.submitted.options or DEFAULTS
    reason = why(node, task, now, counted=True)
    facts = []
    if row.charged or row.losses:
        lost = f", {words.plural(row.losses, 'lost run')} not charged" if row.losses else ""
        facts.append(f"{row.charged} of {options.retries + 1} attempts used{lost}")
    if stage is Stage.WAITING and (needed := query.first_open(node.db, task.ref)) is not None:
        said = why(node, needed, now, counted=False)
        facts.append(f"{needed.id} is {needed.stage(now)}{f': {said}' if said else ''}")
    if reason is not None:
        waits = stage in (Stage.WAITING, Stage.DELEGATED, Stage.READY) and reason.code != "no_worker"
        return {"health": "off" if waits else "warn", "text": str(reason), "facts": facts}
    if stage is Stage.RUNNING:
        text = f"It runs on {row.worker} for {words.duration(max(0.0, now - row.run_started))}."
        facts.append(f"Timeout after {words.duration(options.timeout_s)}")
        return {"health": "run", "text": text, "facts": facts}
    if stage in LIVE:
        place = f"Region {row.region} has it" if row.region else "It is ready"
        return {"health": "off", "text": f"{place}, and nothing holds it up.", "facts": facts}
    took = words.duration(max(0.0, end - task.submitted.created))
    if stage is Stage.COMPLETED:
        return {"health": "ok", "text": f"It completed {took} after it was submitted.", "facts": facts}
    if stage is Stage.CANCELLED:
        who = f" ({row.cancel})" if row.cancel else ""
        return {"health": "off", "text": f"It was cancelled{who} after {took}.", "facts": facts}
    error = error_json(task)
    used = attempt_number(task)
    after = f" after {words.plural(used, 'attempt')}" if used else ""
    return {"health": "bad", "text": f"It failed{after}: {error['type']}: {error['message']}", "facts": facts}


def _attempt(task: Task, number: int) -> dict[str, Any]:
    attempt = task.attempts[number - 1]
    earlier = task.attempts[number - 2] if number > 1 else None
    ready = (earlier.due or earlier.ended) if earlier else task.submitted.created
    ran = ran_ms(attempt)
    return {
        "number": number,
        "attempt": attempt,
        "stage": history.STAGE_OF[attempt.outcome],
        "icon": "s-lost" if attempt.outcome == "lost" else f"s-{history.STAGE_OF[attempt.outcome]}",
        "waited": max(0.0, attempt.started - ready) if attempt.started and ready else None,
        "ran": None if ran is None else ran / 1000,
        "error": f"{attempt.type}: {attempt.message}" if attempt.type else "",
    }


def _events(task: Task) -> list[tuple[float, str, int, str, str]]:
    """(time, stream, sequence, what, detail) of what is known to be stored, newest first."""
    row = task.row
    made = [(task.submitted.created, names.LEDGER, sequence_of(task.ref), "admitted", "")]
    if row.series:
        made.append((0.0, names.LEDGER, row.series, "redriven", "a new series of runs"))
    if row.delegation:
        made.append((row.placed, names.LEDGER, row.delegation, "delegated", f"to {row.region}"))
    for number, attempt in enumerate(task.attempts, 1):
        if attempt.sequence:
            detail = f"run {number}, {attempt.outcome}, {attempt.worker}"
            made.append((attempt.ended, names.outcomes(attempt.region), attempt.sequence, "ran", detail))
    if row.end_seq:
        made.append((row.ended, names.LEDGER, row.end_seq, "settled", row.stage.value))
    made.sort(key=lambda event: event[0])  # stable: of one moment, the order above
    return made[::-1]


def _neighbours(node: Node, task: Task, stage: Stage) -> dict[str, Any]:
    needs = query.needs(node.db, task.ref, graph.SHOWN) if task.submitted.dependencies else []
    needed_by = query.needed_by(node.db, task.ref, graph.SHOWN)
    count = query.needed_by_count(node.db, task.ref, COUNTED)
    if not needs and not needed_by:
        return {"graph": None, "left": (0, 0)}
    total = task.submitted.dependencies
    return {
        "graph": graph.neighbours(task.type, stage, needs, total, needed_by, count),
        "left": query.left(node.db, [task.ref]).get(task.ref, (0, 0)),
    }


async def _content(node: Node, task: Task) -> dict[str, Any]:
    """Payload and result: shown if they are small, otherwise how large they are."""
    said = task.submitted
    made: dict[str, Any] = {
        "payload": "",
        "payload_bytes": said.payload_bytes,
        "result": "",
        "result_bytes": 0,
    }
    if said.payload_bytes <= SHOWN_BYTES:
        made["payload"] = _pretty(await content.payload(node.bus, node.blobs, task))
    if task.row.stage is Stage.COMPLETED:
        if task.row.result_bytes <= SHOWN_BYTES and not task.row.result_blob:
            found = await content.result(node.bus, node.blobs, task)
            made["result_bytes"] = len(found or b"")
            made["result"] = _pretty(found)
        else:
            made["result_bytes"] = task.row.result_bytes or -1
    return made


def _pretty(text: bytes | None) -> str:
    if not text:
        return ""
    return msgspec.json.format(text, indent=2).decode()
