"""Handlers of every kind, well and badly behaved, for the tests of the whole."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from pathlib import Path
from typing import Any

from echelon import Context, task

STARTS = os.open(Path(__file__).with_name("starts"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def echo(value: Any = None) -> Any:
    return value


@task
async def who(ctx: Context) -> dict[str, Any]:
    return {"attempt": ctx.attempt, "key": ctx.idempotency_key}


@task
async def gather(ctx: Context) -> dict[str, Any]:
    """The results of what it depends on."""
    return dict(ctx.results)


@task
async def sleeps(seconds: float = 60.0) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@task
def blocks(seconds: float = 60.0) -> str:
    time.sleep(seconds)
    return "woke"


@task
def notes(name: str) -> str:
    """Writes down that it began."""
    os.write(STARTS, f"{name}\n".encode())
    time.sleep(0.01)
    return name


@task
async def second_time_lucky(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return ctx.attempt


# ------------------------------------------------------------------ badly behaved
@task
def raises(message: str = "asked to") -> None:
    raise ValueError(message)


@task
async def raises_async(message: str = "asked to") -> None:
    raise LookupError(message)


@task
def unencodable() -> Any:
    return {"deep": [object()]}


@task
async def unencodable_async() -> Any:
    return lambda: None


@task
def prints() -> str:
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    os.write(1, b"\x00\xff past everything\n" * 2000)
    return "printed"


@task
def exits() -> None:
    sys.exit(3)


@task
async def exits_hard() -> None:
    os._exit(3)


@task
def segfaults() -> None:
    ctypes.string_at(0)


@task
async def segfaults_async() -> None:
    ctypes.string_at(0)


@task
def blocks_for_ever() -> None:
    while True:
        time.sleep(3600)


@task
async def blocks_the_loop() -> None:
    while True:
        time.sleep(3600)  # noqa: ASYNC251 - that is the point


@task
async def sleeps_for_ever() -> None:
    await asyncio.sleep(10**6)


@task
async def will_not_be_cancelled() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@task
def recursion() -> None:
    def deeper() -> None:
        deeper()

    deeper()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its message")


@task
def raises_unspeakably() -> None:
    raise Unspeakable


# ------------------------------------------------------------------ types that the founding bodies name
@task
def processing(data: Any = None, parameters: dict[str, Any] | None = None) -> Any:
    return {"data": data, "parameters": parameters}


@task(name="DATA_PROCESSING")
def data_processing(text: Any) -> Any:
    return {"text": text}


@task(name="send-email")
def send_email(to: str) -> Any:
    return {"to": to}


@task
def analysis(input: Any = None) -> Any:
    return {"input": input}


@task
def critical_analysis() -> str:
    return "at once"
