"""Tasks that run beside everything else: the one who waits for them must learn that they died.

`asyncio.wait_for` is not used in this package: in Python 3.11 it swallows a cancellation that arrives when
what it waits for has just ended, and the task goes on for ever. `asyncio.timeout` does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from .client import log


def beside(coroutine: Coroutine[object, object, None], died: Callable[[], None]) -> asyncio.Task[None]:
    """Run it; should it end by an exception, that is logged and `died` is called."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("task died", name=task.get_name(), exc_info=error)
            died()

    task = asyncio.get_running_loop().create_task(coroutine)
    task.set_name(getattr(coroutine, "__qualname__", ""))
    task.add_done_callback(ended)
    return task


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel and wait until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def set_within(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set; False if it was not within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
