"""A task in the future. A handle holds an id and nothing else: a million cost what a million ids do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from echelon.ends import Ended
from echelon.errors import NotFound, TaskCancelled, TaskExpired, TaskFailed
from echelon.wire.codec import from_json
from echelon.wire.names import id_of

if TYPE_CHECKING:
    from echelon.client import Client

T = TypeVar("T")


class Handle(Generic[T]):
    __slots__ = ("_client", "_era", "_id", "ref")

    def __init__(self, client: Client, ref: int, task_id: str = "", era: int = -1) -> None:
        """`era`: of the client's ends when it submitted the task, -1 if it existed before."""
        self._client = client
        self.ref = ref
        self._id = task_id
        self._era = era

    @property
    def id(self) -> str:
        return self._id or id_of(self.ref)

    async def result(self, timeout: float | None = None) -> T:  # noqa: ASYNC109  the name that users know
        """What the task returned. `timeout` in seconds, None: as long as it takes.

        Raises:
            TaskFailed, TaskCancelled, TaskExpired: it ended otherwise.
            TimeoutError: it has not ended in time; it goes on.
        """
        future = self.wait()
        if timeout is not None:
            done, _ = await asyncio.wait((future,), timeout=timeout)
            if not done:
                future.cancel()
                raise TimeoutError(f"Task {self.id!r} has not ended within {timeout:g} s.")
        return await self.value(await future)

    def wait(self) -> asyncio.Future[Ended]:
        """Done when the task has ended, however it ended."""
        return self._client.ends.wait(self.ref, self._era)

    async def value(self, ended: Ended) -> T:
        """The result in what `wait` gave, or the exception."""
        if ended.end is None:
            if ended.ran is None:
                raise NotFound("result of task", self.id)
            data: bytes | None = ended.ran.result
            if ended.ran.blob:
                data = await self._client.blob(ended.ran.blob)
            if data is None:
                raise NotFound("result of task", self.id)
            return cast(T, from_json(data) if data else None)
        match ended.end.kind:
            case "cancelled":
                raise TaskCancelled(self.id)
            case "expired":
                raise TaskExpired(self.id)
        raise _failed(self.id, ended)

    async def status(self) -> str:
        """pending, running, completed, failed or cancelled."""
        return str((await self.get())["status"])

    async def get(self) -> dict[str, Any]:
        """All that is known of the task, as `GET /api/tasks/{id}` gives it."""
        return await self._client.get(self.id)

    async def cancel(self, reason: str = "") -> None:
        """
        Raises:
            AlreadyEnded: too late.
        """
        await self._client.cancel(self.id, reason=reason)

    def __repr__(self) -> str:
        return f"<Handle {self.id}>"


def _failed(task_id: str, ended: Ended) -> TaskFailed:
    end, ran = ended.end, ended.ran
    assert end is not None
    if ran is not None and ran.error is not None:
        return TaskFailed(task_id, ran.error.type, ran.error.message, ran.error.traceback)
    kind, message = {
        "dependency_failed": ("DependencyFailed", f"The dependency {end.detail!r} did not succeed."),
        "died": ("ProcessDied", "The process that ran it died."),
        "timeout": ("Timeout", "It ran longer than its timeout."),
        "poison": ("Poison", "It was lost with its worker too often."),
        "lost": ("Poison", "It was lost with its worker too often."),
    }.get(end.cause, (end.cause or "Failed", end.detail))
    return TaskFailed(task_id, kind, message)
