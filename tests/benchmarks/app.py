"""Handlers for the figures: nothing, and when it began."""

from __future__ import annotations

import time

from echelon import task


@task
async def noop() -> None: ...


@task
async def began() -> float:
    return time.monotonic()
