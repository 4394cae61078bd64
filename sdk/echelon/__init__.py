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
    from echelon.running import Context, Fatal, context
    from echelon.tasks import Task, remote, task

_HOME = {
    "Context": "echelon.running",
    "Fatal": "echelon.running",
    "Task": "echelon.tasks",
    "context": "echelon.running",
    "remote": "echelon.tasks",
    "task": "echelon.tasks",
}

__all__ = ["Context", "Fatal", "Task", "context", "remote", "task"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'echelon' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
