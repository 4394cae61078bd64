"""A coroutine that suspends becomes an asyncio task after the fact.

Most handlers end without ever suspending; a task each would cost more than all else together. But whoever
asks for the current task must find one from the first line on: `asyncio.timeout`, `TaskGroup`, anyio. So a
task is made beforehand around an empty shell, and entered as the current one while handlers are begun by
`send(None)`. One that ends at once leaves the shell as it was, for the next. One that suspends takes it: the
task goes on with exactly what the coroutine waits for, and a new shell is made.

`asyncio.tasks._enter_task` and `_leave_task` are the documented hooks for task implementations ("Extending"
in asyncio's documentation). Eager tasks (3.12) do the same inside CPython, at the price of a task each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

Step = Callable[[BaseException | None], Any]
"""Go on, or throw this into the coroutine; returns what it waits for, raises StopIteration at its end."""

_NOTHING: Final = object()


class Shell(Coroutine[Any, Any, None]):
    """Waits, as a task of its own, until it is given a coroutine to go on with."""

    __slots__ = ("_loop", "_parked", "_pending", "_step", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._step: Step | None = None
        self._pending: Any = _NOTHING
        self._parked: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] = asyncio.Task(self, loop=loop)

    @property
    def blank(self) -> bool:
        """May the next handler begin in it? Not after one that cancelled its own task and then ended.

        Speaks of this turn of the loop; in a later one the task may be done as well.
        """
        parked = self._parked
        if parked is not None:
            return not parked.done()
        return not self.task._must_cancel  # type: ignore[attr-defined]

    def take(self, step: Step, waits_for: Any) -> None:
        """From now on this is the task of a coroutine that has just suspended."""
        self._step = step
        self._pending = waits_for
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def send(self, value: Any) -> Any:
        if self._step is None:
            parked = self._parked = self._loop.create_future()
            parked._asyncio_future_blocking = True  # as Future.__await__ does before it yields itself
            return parked
        if self._pending is not _NOTHING:
            pending, self._pending = self._pending, _NOTHING
            return pending
        return self._step(None)

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        if self._step is None:
            raise error
        if self._pending is not _NOTHING:  # cancelled before the task came to wait for it
            pending, self._pending = self._pending, _NOTHING
            if pending is not None and isinstance(error, asyncio.CancelledError):
                if pending.cancel() and not pending.done():
                    return pending  # another task, that goes on until it has noticed
        return self._step(error)

    def close(self) -> None:
        """Nothing to do: the coroutine closes itself when it is dropped."""

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("A shell is run by its task only.")
