"""Live pages: one stream of server-sent events each, carrying the parts that changed.

A part is rendered by the same block as at first paint and sent only if it differs from what this stream sent
last, at most four times a second. The first message after each connect holds every part, so what was missed
while a tab was hidden or a server restarted does not matter. A `beat` each second says how old the data are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.response import ServerSentEvent, ServerSentEventMessage
from markupsafe import escape

from echelon.errors import Invalid
from echelon.wire.api import FieldError
from echelon_web.node import Node
from echelon_web.pages import frame, render
from echelon_web.pages.overview import page as overview
from echelon_web.pages.task import page as task
from echelon_web.pages.tasks import page as tasks
from echelon_web.readmodel import query
from echelon_web.readmodel.rows import STATUSES

EVERY_S: Final = 0.25
BEAT_S: Final = 1.0
View = Callable[[], Awaitable[dict[str, Any]]]


@get("/ui/live")
async def live(request: Request[Any, Any, Any], node: Node) -> Response[Any]:
    asked = dict(request.query_params.items())
    place, template, parts, view = _page(node, asked)
    return ServerSentEvent(_stream(node, place, template, parts, view))


def _page(node: Node, asked: Mapping[str, str]) -> tuple[str, str, tuple[str, ...], View]:
    """(place, template, its parts, what they show) of the page that asks.

    Raises:
        Invalid: there is no such page.
    """
    top, offset = _number(asked, "top"), _number(asked, "offset")
    status = asked.get("status") or None
    match asked.get("page"):
        case "overview":

            async def of_overview() -> dict[str, Any]:
                return overview.view(node, top)

            return "overview", overview.TEMPLATE, overview.PARTS, of_overview
        case "tasks" if status is None or status in STATUSES:

            async def of_tasks() -> dict[str, Any]:
                return tasks.view(node, status, offset, top)

            return "tasks", tasks.TEMPLATE, tasks.PARTS, of_tasks
        case "task" if (name := asked.get("id", "")) and query.task(node.db, name) is not None:

            async def of_task() -> dict[str, Any]:
                found = query.task(node.db, name)
                return await task.view(node, found) if found is not None else {}

            return "tasks", task.TEMPLATE, task.PARTS, of_task
        case _:
            raise Invalid([FieldError("page", "page", "Ask for overview, tasks, or task with an id.")])


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


async def _stream(
    node: Node, place: str, template: str, parts: tuple[str, ...], view: View
) -> AsyncIterator[ServerSentEventMessage]:
    sent: dict[str, str] = {}
    seen = (-1, -1)
    beat_at = 0.0
    while not node.stopping.is_set():
        await node.fresh()
        now = time.monotonic()
        beat = now - beat_at >= BEAT_S
        version = (node.feed.version, node.fleet.version)
        if version != seen or beat:
            seen = version
            shown = await view()
            changed = [(name, render.part(template, name, shown)) for name in parts] if shown else []
            around = frame.frame(node, place)
            changed += [(name, render.part(frame.TEMPLATE, name, around)) for name in frame.PARTS]
            changed = [(name, text) for name, text in changed if sent.get(name) != text]
            if changed:
                sent |= changed
                yield ServerSentEventMessage(data="".join(_partial(*one) for one in changed))
        if beat:
            beat_at = now
            age = max(0.0, node.now() - node.fleet.heard)
            yield ServerSentEventMessage(
                data=msgspec.json.encode({"age": round(age, 2)}).decode(), event="beat"
            )
        try:
            async with asyncio.timeout(EVERY_S):
                await node.stopping.wait()
        except TimeoutError:
            pass
    yield ServerSentEventMessage(data="stopping", event="end")


def _partial(name: str, text: str) -> str:
    return f'<hx-partial hx-target="#live-{escape(name)}" hx-swap="outerMorph">{text}</hx-partial>'
