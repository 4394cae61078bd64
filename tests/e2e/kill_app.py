"""Handlers that write down what they do: copied into the folder of a kill run, the journal lies beside.

One `os.write` to a file opened with O_APPEND is whole and in order, whoever else writes, whoever is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path
from typing import Any

from echelon import Context, task

JOURNAL = os.open(Path(__file__).with_name("journal"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
_numbers = itertools.count(1)


def begin(task: int, attempt: int) -> str:
    pid = os.getpid()
    token = f"{pid}.{next(_numbers)}.{time.monotonic_ns()}"
    os.write(JOURNAL, f"S {task} {attempt} {pid} {token} {time.monotonic():.6f}\n".encode())
    return token


def end(token: str, how: str = "ok") -> None:
    os.write(JOURNAL, f"E {token} {time.monotonic():.6f} {how}\n".encode())


@task
async def quick(ctx: Context, n: int) -> dict[str, Any]:
    token = begin(n, ctx.attempt)
    end(token)
    return {"task": n, "token": token}


@task
async def lasting(ctx: Context, n: int) -> dict[str, Any]:
    token = begin(n, ctx.attempt)
    await asyncio.sleep(0.05)
    end(token)
    return {"task": n, "token": token}


@task
def blocking(ctx: Context, n: int) -> dict[str, Any]:
    token = begin(n, ctx.attempt)
    time.sleep(0.005)
    end(token)
    return {"task": n, "token": token}


@task
async def flaky(ctx: Context, n: int) -> dict[str, Any]:
    """Fails twice; what a kill charges besides leaves it enough."""
    token = begin(n, ctx.attempt)
    if ctx.attempt <= 2:
        end(token, "raised")
        raise RuntimeError(token)
    end(token)
    return {"task": n, "token": token}


@task
async def after(ctx: Context, n: int) -> dict[str, Any]:
    """Says whose results it was given."""
    token = begin(n, ctx.attempt)
    given = {id: result["token"] for id, result in ctx.results.items()}
    end(token)
    return {"task": n, "token": token, "given": given}
