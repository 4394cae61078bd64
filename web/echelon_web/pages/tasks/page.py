"""Lists of tasks. Rows never move: those shown are brought up to date, newer ones wait behind a button."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from litestar import Request, Response, get
from litestar.response import Redirect

from echelon_core.life import LIVE, Stage, status
from echelon_web.api.listing import page as list_page
from echelon_web.node import Node
from echelon_web.pages import render
from echelon_web.pages.frame import opened
from echelon_web.readmodel import query
from echelon_web.readmodel.query import Task
from echelon_web.readmodel.rows import STATUSES
from echelon_web.reason import reason_of

TEMPLATE: Final = "tasks/rows.html"
PARTS: Final = ("facets", "list")
SHOWN: Final = 50
NEW_CAP: Final = 1000
_ICON: Final = {"pending": "waiting"}  # the others have their own


@get("/ui/tasks")
async def task_list(request: Request[Any, Any, Any], node: Node) -> Response[Any]:
    await node.fresh()
    asked = dict(request.query_params.items())
    if (wanted := asked.pop("q", "").strip()) != "":
        if query.task(node.db, wanted) is not None:
            return Redirect(f"/ui/tasks/{wanted}")
        context = opened(request, node, "tasks", "Not found", "page=tasks&status=&offset=0&top=0")
        return render.page("tasks/page.html", {**context, **view(node, None, 0, 0), "missing": wanted}, 404)
    page = list_page(request)
    newest = query.tasks(node.db, page.status, 1, page.offset)
    top = newest[0].ref if newest else 0
    live = urlencode({"page": "tasks", "status": page.status or "", "offset": page.offset, "top": top})
    context = opened(request, node, "tasks", "Tasks", live)
    return render.page(
        "tasks/page.html", {**context, **view(node, page.status, page.offset, top), "missing": ""}
    )


def view(node: Node, status_word: str | None, offset: int, top: int) -> dict[str, Any]:
    """The context of every part. `top`: the newest task of this page as it was first shown."""
    counts = query.counts(node.db)
    totals = dict.fromkeys(STATUSES, 0)
    for stage, tasks in counts.items():
        totals[status(stage)] += tasks
    everything = sum(totals.values())
    now = node.now()
    shown = rows_of(node, status_word, SHOWN, top, now, first=offset == 0)
    total = totals[status_word] if status_word else everything
    return {
        "now": now,
        "status": status_word or "",
        "offset": offset,
        "total": total,
        "older": _link(status_word, offset + SHOWN) if offset + SHOWN < total else "",
        "newer": _link(status_word, max(0, offset - SHOWN)) if offset else "",
        "newest": _link(status_word, 0),
        "facets": [("", "all", "", everything)]
        + [(word, word, _ICON.get(word, word), totals[word]) for word in STATUSES],
        **shown,
    }


def _link(status_word: str | None, offset: int) -> str:
    asked = {"status": status_word, "offset": offset}
    query_text = urlencode({name: value for name, value in asked.items() if value})
    return f"/ui/tasks?{query_text}" if query_text else "/ui/tasks"


def rows_of(
    node: Node, status_word: str | None, limit: int, top: int, now: float, *, first: bool = True
) -> dict[str, Any]:
    """Rows from `top` down, and how many are newer. A first page that is not full takes new ones in."""
    found = query.tasks(node.db, status_word, limit, 0, top)
    fresh = query.newer(node.db, top, status_word, NEW_CAP) if first else 0
    if fresh and len(found) < limit:
        found, fresh = query.tasks(node.db, status_word, limit), 0
    troubled = [task for task in found if task.row.stage is not Stage.COMPLETED]
    query.with_attempts(node.db, troubled)
    waiting = [task.ref for task in troubled if task.row.stage is Stage.WAITING]
    left = query.left(node.db, waiting) if waiting else {}
    return {
        "rows": [_row(node, task, now, left.get(task.ref, (0, 0))) for task in found],
        "fresh": f"{NEW_CAP:,} or more" if fresh >= NEW_CAP else f"{fresh:,}" if fresh else "",
    }


def _row(node: Node, task: Task, now: float, left: tuple[int, int]) -> dict[str, Any]:
    row = task.row
    reason = reason_of(task, node.fleet, now, left)
    begun = row.started or row.ended or now
    error = next((attempt for attempt in reversed(task.attempts) if attempt.type), None)
    if reason is not None:
        note = str(reason).split(". ")[0].removesuffix(".")
    elif row.stage in LIVE:
        note = ""
    elif error is not None and row.stage is not Stage.CANCELLED:
        note = f"{error.type}: {error.message}"
    else:
        note = (row.cause or "").replace("_", " ")
    ran = 0.0
    if row.run_started:
        ran = max(
            0.0, (row.run_ended or (now if row.stage is Stage.RUNNING else row.run_started)) - row.run_started
        )
    return {
        "task": task,
        "stage": task.stage(now),
        "priority": task.submitted.priority,
        "region": row.region or row.run_region,
        "worker": row.worker or "",
        "attempt": row.charged + (row.stage in (Stage.RUNNING, Stage.COMPLETED)),
        "waited": max(0.0, begun - task.submitted.created),
        "ran": ran,
        "ended": row.ended,
        "note": note,
    }
