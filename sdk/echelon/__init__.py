"""Echelon for applications: define tasks, submit them, wait for results.

    from echelon import task

    @task
    async def add(a: int, b: int) -> int:
        return a + b

    handle = await add.submit(2, 3)
    assert await handle.result() == 5

Nothing is imported before it is asked for (PEP 562): `echelon.wire` is part of every server process, and
must not bring a client with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echelon.client import Client
    from echelon.errors import (
        AlreadyEnded,
        BadArguments,
        EchelonError,
        Invalid,
        NoServer,
        NotFound,
        Overloaded,
        PayloadTooLarge,
        StillLive,
        TaskCancelled,
        TaskExpired,
        TaskFailed,
        TaskIdConflict,
        Unavailable,
    )
    from echelon.handle import Handle
    from echelon.running import Context, Fatal, context
    from echelon.sync import SyncClient, SyncHandle
    from echelon.tasks import Task, remote, task

_HOME = {
    "AlreadyEnded": ".errors",
    "BadArguments": ".errors",
    "Client": ".client",
    "Context": ".running",
    "EchelonError": ".errors",
    "Fatal": ".running",
    "Handle": ".handle",
    "Invalid": ".errors",
    "NoServer": ".errors",
    "NotFound": ".errors",
    "Overloaded": ".errors",
    "PayloadTooLarge": ".errors",
    "StillLive": ".errors",
    "SyncClient": ".sync",
    "SyncHandle": ".sync",
    "Task": ".tasks",
    "TaskCancelled": ".errors",
    "TaskExpired": ".errors",
    "TaskFailed": ".errors",
    "TaskIdConflict": ".errors",
    "Unavailable": ".errors",
    "context": ".running",
    "remote": ".tasks",
    "task": ".tasks",
}

__all__ = [
    "AlreadyEnded",
    "BadArguments",
    "Client",
    "Context",
    "EchelonError",
    "Fatal",
    "Handle",
    "Invalid",
    "NoServer",
    "NotFound",
    "Overloaded",
    "PayloadTooLarge",
    "StillLive",
    "SyncClient",
    "SyncHandle",
    "Task",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskIdConflict",
    "Unavailable",
    "context",
    "remote",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'echelon' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
