"""Handlers of every kind, loaded by a real child: see tests/unit/test_sdk_child*.py."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
from typing import Any

import echelon
from echelon import Context, Fatal, task


class Rude(Exception):
    def __str__(self):
        raise RuntimeError("no text from me")


var = contextvars.ContextVar("var", default="fresh")


@task
async def add(a: int, b: float = 0.5) -> float:
    return a + b


@task(name="sync.add")
def sync_add(a: int, b: float = 0.5) -> float:
    return a + b


async def deep():
    raise ValueError("bad \ud800 " + "x" * 1000)


@task
async def raises() -> None:
    try:
        {}["k"]
    except KeyError as cause:
        raise ValueError("told") from cause


@task(name="raises.long")
async def raises_long() -> None:
    await deep()


@task(name="raises.later")
async def raises_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("later")


@task(name="raises.rude")
async def rude() -> None:
    raise Rude()


@task(name="raises.exit")
async def exits() -> None:
    sys.exit(3)


@task(name="raises.interrupt")
async def interrupts() -> None:
    await asyncio.sleep(0)
    raise KeyboardInterrupt


@task(name="raises.fatal")
async def fatal() -> None:
    raise Fatal("never again")


@task(name="raises.stop")
def stops() -> None:
    raise StopIteration("from a plain function")


@task
async def give(kind: str) -> Any:
    loop = []
    loop.append(loop)
    return {
        "object": [1, {"a": object()}],
        "nan": {"x": float("nan")},
        "loop": loop,
        "big": 2**70,
        "long": "x" * 200_000,
        "keys": {(1, 2): 3},
        "none": None,
        "set": {1},
        "half": "\ud800",
        "huge": "x" * (65 << 20) if kind == "huge" else "",
    }[kind]


@task
async def prints() -> None:
    print("hello from the handler")
    print("and to stderr", file=sys.stderr)
    os.write(1, b"raw bytes\n")


@task
async def who(ctx: Context) -> Any:
    await asyncio.sleep(0)
    here = echelon.context()
    return [ctx.task_id, ctx.attempt, ctx.idempotency_key, dict(ctx.results), here is ctx, ctx.cancelled]


@task
async def unannotated(x: int, ctx, *, y: int = 2) -> Any:
    return [x, y, ctx.task_id]


@task
def within_thread() -> Any:
    got = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: got.append(context.run(echelon.context).task_id))
    thread.start()
    thread.join()
    return got


@task
async def variables() -> str:
    before = var.get()
    var.set("set by another")
    await asyncio.sleep(0.01)
    return before + "/" + var.get()


@task
async def anything(**kwargs) -> Any:
    return kwargs


@task
async def one(value: Any) -> Any:
    return value


@task
async def timed() -> Any:
    me = asyncio.current_task()
    async with asyncio.timeout(5):
        await asyncio.sleep(0.01)
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    except TimeoutError:
        pass
    async with asyncio.TaskGroup() as group:
        child = group.create_task(asyncio.sleep(0, "from a child"))
    return [child.result(), asyncio.current_task() is me, me.cancelling()]


@task(name="timed.at_once")
async def timed_at_once() -> Any:
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(5)
    except TimeoutError:
        return "timeout"


@task(name="cancels.itself")
async def cancels_itself(swallow: bool) -> Any:
    asyncio.current_task().cancel()
    if not swallow:
        await asyncio.sleep(1)
    return "went on"


@task
async def sleeps(seconds: float = 60.0) -> Any:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if echelon.context().cancelled:
            raise
    return "slept"


@task(name="sleeps.stubborn")
async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


@task(name="sleeps.polite")
async def polite() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "tidied up"
    return ""


@task
async def blocks(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251
    return "blocked"


@task(name="blocks.sync")
def blocks_sync(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


@task
def asks(ctx: Context) -> str:
    while not ctx.cancelled:
        time.sleep(0.001)
    return "saw it"


@task
def dies() -> None:
    os._exit(17)


@task
def segfaults() -> None:
    import ctypes

    ctypes.string_at(0)


@task
def forks() -> str:
    if os.fork() == 0:
        return "from the copy"
    return "from the original"


@task
def closes() -> None:
    sys.stdout.close()
