"""From the read model to bytes: one task with everything, or a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Response

from echelon_core.life import Stage
from echelon_core.reasons import Reason
from echelon_web.api.shape import attempts_json, task_json
from echelon_web.readmodel import content, query
from echelon_web.readmodel.query import Task
from echelon_web.reason import reason_of

if TYPE_CHECKING:
    from echelon_web.node import Node

POSITION: Final = "Echelon-Position"
COUNTED: Final = 9999
"""Tasks before this one are counted no further."""
NO_LIMIT: Final = 2**63 - 1
encode: Final = msgspec.json.Encoder().encode


def why(node: Node, task: Task, now: float, *, counted: bool) -> Reason | None:
    left = (0, 0)
    if task.row.stage is Stage.WAITING:
        left = query.left(node.db, [task.ref]).get(task.ref, left)
    ahead = query.ahead(node.db, task.ref, COUNTED) if counted and task.live else None
    return reason_of(task, node.fleet, now, left, ahead)


async def task_dict(node: Node, task: Task, *, limit: int = NO_LIMIT) -> dict[str, Any]:
    """Everything of one task; a result of more than `limit` bytes is left out and said to be."""
    now = node.now()
    result = None
    if not task.live and task.row.stage is Stage.COMPLETED and task.row.result_bytes <= limit:
        result = await content.result(node.bus, node.blobs, task)
        if result is not None and len(result) > limit:
            result = None
    names = query.dependency_ids(node.db, [task.ref]).get(task.ref) if task.submitted.dependencies else None
    made = task_json(task, now, why(node, task, now, counted=True), result=result, dependencies=names)
    made["attempts"] = attempts_json(task)
    return made


async def task_bytes(node: Node, task: Task, *, limit: int = NO_LIMIT) -> bytes:
    return encode(await task_dict(node, task, limit=limit))


def tasks_dicts(node: Node, found: list[Task]) -> list[dict[str, Any]]:
    """Of many tasks what a list shows: results only where they are small."""
    now = node.now()
    query.with_attempts(
        node.db, [task for task in found if task.row.charged or task.row.stage is not Stage.COMPLETED]
    )
    waiting = [task.ref for task in found if task.row.stage is Stage.WAITING]
    left = query.left(node.db, waiting) if waiting else {}
    needing = [task.ref for task in found if task.submitted.dependencies]
    names = query.dependency_ids(node.db, needing) if needing else {}
    return [
        task_json(
            task,
            now,
            reason_of(task, node.fleet, now, left.get(task.ref, (0, 0))),
            result=task.row.result if task.row.stage is Stage.COMPLETED else None,
            dependencies=names.get(task.ref),
        )
        for task in found
    ]


def json_answer(
    node: Node, made: object, status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """With a position for a read elsewhere to be no older than this node and what it promised."""
    position = max(node.feed.written, node.commands.acknowledged)
    return Response(
        made if isinstance(made, bytes) else encode(made),
        status_code=status_code,
        media_type="application/json",
        headers={POSITION: str(position), "Cache-Control": "no-store", **(headers or {})},
    )
