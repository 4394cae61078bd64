"""What every page shows around its content."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from echelon_core.life import Stage
from echelon_web.node import Node
from echelon_web.readmodel import query

TEMPLATE: Final = "frame.html"
PARTS: Final = ("nav", "foot")
_THEMES: Final = ("light", "dark")


def frame(node: Node, place: str) -> dict[str, Any]:
    """The context of the frame's live parts. `place`: which page of the navigation this is."""
    counts = query.counts(node.db)
    living, everybody = len(node.fleet.living()), len(node.fleet.everybody())
    return {
        "place": place,
        "failed": counts.get(Stage.FAILED, 0) + counts.get(Stage.EXPIRED, 0),
        "living": living,
        "everybody": everybody,
        "version": node.version,
        "lag": _lag(node),
    }


def opened(request: Request[Any, Any, Any], node: Node, place: str, title: str, live: str) -> dict[str, Any]:
    """The context of a whole page. `live`: the query of its stream of updates."""
    theme = request.cookies.get("echelon-theme", "")
    host = node.settings.host
    return {
        **frame(node, place),
        "title": title,
        "live": live,
        "theme": theme if theme in _THEMES else "",
        "environment": "local" if host in ("127.0.0.1", "::1", "localhost") else host,
    }


def _lag(node: Node) -> str:
    if not node.bus.is_connected:
        return "cut off from the broker"
    if not node.feed.current.is_set():
        return "reading the ledger from its beginning"
    master = node.fleet.master
    behind = max(0, master.position - node.feed.written) if master else 0
    return f"{behind:,} entries behind the ledger" if behind > 200 else "in step with the ledger"
