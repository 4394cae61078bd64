"""/api/tasks: submit, look, list, cancel, retry."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post

from echelon.errors import AlreadyEnded, EchelonError, Invalid, NotFound, NotYet, Unavailable, alone
from echelon.wire.api import FieldError
from echelon.wire.names import CANCEL, RETRY, id_of
from echelon_web.api import bodies, listing
from echelon_web.api.answer import POSITION, json_answer, task_dict, tasks_dicts
from echelon_web.node import Node
from echelon_web.readmodel import query
from echelon_web.readmodel.query import Task

Asked = Request[Any, Any, Any]


async def fresh(request: Asked, node: Node) -> None:
    """Wait until reads see what the client has seen, here or elsewhere.

    Raises:
        Invalid: the header is none of ours.
        Unavailable: the read model is still being made, so what is not found may yet be there.
    """
    text = request.headers.get(POSITION, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid([FieldError(POSITION, "position", "Send back the header of an earlier answer.")])
    if not await node.fresh(int(text)) and not node.feed.current.is_set():
        raise Unavailable("This node still reads the ledger.", 1.0)


def find(node: Node, name: str) -> Task:
    """Raises NotFound."""
    task = query.task(node.db, name)
    if task is None:
        raise NotFound("task", name[:128])
    return task


@post("/tasks", status_code=202)
async def submit(request: Asked, node: Node) -> Response[bytes]:
    if "Idempotency-Key" in request.headers:
        raise NotYet(
            [
                FieldError(
                    "Idempotency-Key", "not_yet", "A later version brings this; give tasks an id of yours."
                )
            ]
        )
    listing.parameters(request, ())
    given = bodies.submissions(await request.body(), timeout_s=node.settings.task_timeout_s)
    try:
        position, admission = await node.commands.submit(given.tasks)
    except EchelonError as error:
        raise alone(error) if given.single else error from None
    await node.fresh(position)
    refs = admission.refs()
    found = query.by_refs(node.db, refs)
    created = len(refs) - len(admission.known)
    if given.single:
        (ref,) = refs
        name = given.tasks[0].id or id_of(ref)
        made = await task_dict(node, query.with_attempts(node.db, [found[ref]])[0]) if ref in found else {
            "task_id": name, "status": "pending"
        }  # fmt: skip
        headers = {"Location": f"/api/tasks/{name}"}
        return json_answer(node, made, 202 if created else 200, headers)
    items = tasks_dicts(node, [found[ref] for ref in refs if ref in found])
    return json_answer(node, {"items": items, "created": created}, 202 if created else 200)


@get("/tasks")
async def list_tasks(request: Asked, node: Node) -> Response[bytes]:
    page = listing.page(request)
    await fresh(request, node)
    found = query.tasks(node.db, page.status, page.limit + 1, page.offset, page.upto)
    shown, more = found[: page.limit], len(found) > page.limit
    return json_answer(
        node,
        {
            "items": tasks_dicts(node, shown),
            "total": query.total(node.db, page.status),
            "next": listing.cursor(shown[-1].ref) if more else None,
            "truncated": more and page.capped,
        },
    )


@get("/tasks/{name:str}")
async def get_task(request: Asked, node: Node, name: str) -> Response[bytes]:
    listing.parameters(request, ())
    await fresh(request, node)
    return json_answer(node, await task_dict(node, find(node, name)))


@post("/tasks/{name:str}/cancel", status_code=202)
async def cancel(request: Asked, node: Node, name: str) -> Response[bytes]:
    return await _act(request, node, name, CANCEL)


@post("/tasks/{name:str}/retry", status_code=202)
async def retry(request: Asked, node: Node, name: str) -> Response[bytes]:
    return await _act(request, node, name, RETRY)


async def _act(request: Asked, node: Node, name: str, subject: str) -> Response[bytes]:
    listing.parameters(request, ())
    reason = bodies.act(await request.body())
    try:
        position, _ = await node.commands.act(subject, name, reason)
    except AlreadyEnded as error:
        await node.fresh()
        task = query.task(node.db, name)
        if task is not None:
            error.more = {"task": await task_dict(node, task)}  # type: ignore[attr-defined]
        raise
    await node.fresh(position)
    return json_answer(node, await task_dict(node, find(node, name)), 202)


HANDLERS = (submit, list_tasks, get_task, cancel, retry)
