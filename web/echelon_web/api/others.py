"""/api/workers, /api/regions, /health."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from echelon_web.api import listing
from echelon_web.api.answer import json_answer
from echelon_web.api.shape import region_json, worker_json
from echelon_web.node import Node
from echelon_web.readmodel import query

Asked = Request[Any, Any, Any]


@get("/workers")
async def workers(request: Asked, node: Node) -> Response[bytes]:
    listing.parameters(request, ())
    everybody = node.fleet.everybody()
    running = query.by_refs(node.db, [ref for worker in everybody for ref in worker.info.running])
    names = {ref: task.id for ref, task in running.items()}
    now = node.now()
    return _whole(node, [worker_json(worker, names, now) for worker in everybody])


@get("/regions")
async def regions(request: Asked, node: Node) -> Response[bytes]:
    listing.parameters(request, ())
    fleet, now = node.fleet, node.now()
    return _whole(node, [region_json(name, fleet.regions.get(name), fleet, now) for name in fleet.names()])


def _whole(node: Node, items: list[dict[str, Any]]) -> Response[bytes]:
    return json_answer(node, {"items": items, "total": len(items), "next": None, "truncated": False})


@get("/health/live")
async def live(node: Node) -> Response[bytes]:
    return json_answer(node, {"status": "ok", "version": node.version})


@get("/health/ready")
async def ready(node: Node) -> Response[bytes]:
    """Ready: submissions would be taken and reads are current."""
    checks = {
        "broker": node.bus.is_connected,
        "master": node.fleet.leads(node.now()),
        "read_model": node.feed.current.is_set(),
    }
    well = all(checks.values())
    made = {
        "status": "ready" if well else "not ready",
        "checks": {name: "ok" if fine else "not ok" for name, fine in checks.items()},
    }
    return json_answer(node, made, 200 if well else 503, None if well else {"Retry-After": "1"})


HANDLERS = (workers, regions)
HEALTH = (live, ready)
