"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    look: Callable[[], T | Awaitable[T]], timeout_s: float = 10.0, *, every_s: float = 0.01
) -> T:
    """Call `look` until what it returns (or what comes of awaiting it) is true, and return that.

    Raises:
        AssertionError: it was still false when the time was up; the message says what it was.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        seen: T = await found if inspect.isawaitable(found) else found
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s; last seen: {seen!r}")
        await asyncio.sleep(every_s)
