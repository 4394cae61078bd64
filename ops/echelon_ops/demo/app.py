"""The demo's tasks: the census, the types that examples name, and a few to play with.

What `echelon up` serves without `--app`. Sync functions run in processes of their own, async ones share a
loop: parsing is for the first, waiting for the second.
"""

from __future__ import annotations

import asyncio
from typing import Any

from echelon import Context, task
from echelon_ops.demo.count import count_file, report


@task(tags=["census"])
def census_file(path: str, module: str = "") -> dict[str, Any]:
    """Counts functions, classes, lines, imports and the deepest nesting of one source file."""
    return count_file(path, module)


@task(tags=["census"], timeout=120)
def census_report(ctx: Context) -> dict[str, Any]:
    """Ranks modules, from the results of all the tasks that it depends on."""
    return report(ctx.results.values())


@task
def processing(data: Any = None, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"data": data, "parameters": parameters or {}, "words": len(str(data).split())}


@task(name="DATA_PROCESSING")
def data_processing(text: Any) -> dict[str, Any]:
    return {"text": text, "characters": len(str(text))}


@task(name="send-email")
def send_email(to: str, subject: str = "", body: str = "") -> dict[str, Any]:
    """Sends nothing: a demo should not."""
    return {"to": to, "subject": subject, "bytes": len(body.encode()), "sent": False}


@task
def analysis(input: Any = None) -> dict[str, Any]:
    return {"input": input, "kind": type(input).__name__}


@task
def critical_analysis(input: Any = None) -> dict[str, Any]:
    return {"input": input, "kind": type(input).__name__}


@task
async def noop() -> None:
    """Nothing, as fast as it goes: what a task costs."""


@task
def add(a: int | float, b: int | float) -> int | float:
    return a + b


@task
async def sleep(seconds: float = 1.0) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task
def fail(message: str = "asked to") -> None:
    """Raises, so that retries and dead letters can be seen."""
    raise RuntimeError(message)
