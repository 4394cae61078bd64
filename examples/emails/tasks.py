"""Welcome mails: one task writes, one sends what the other wrote.

    echelon up --app examples/emails/tasks.py
    python examples/emails/welcome.py ada@example.org bob@example.org

Sync functions have a process to themselves, async ones share a loop: writing computes, sending waits.
"""

from __future__ import annotations

import asyncio

from echelon import Context, Fatal, task


@task(tags=["mail"])
def write(name: str) -> str:
    return f"Dear {name},\nwelcome! We are glad that you are here."


@task(retries=5, timeout=30, tags=["mail"])
async def send(to: str, letter: str, ctx: Context) -> dict[str, object]:
    """Sends what the task `letter` wrote.

    A mail server that is busy raises: the task runs again later. An address that is none will never be one,
    so no retry is spent on it. Where the provider honours the key, a repeated run sends no second mail.
    """
    if "@" not in to:
        raise Fatal(f"{to!r} is no address")
    body: str = ctx.results[letter]
    await asyncio.sleep(0.05)  # here the mail server would be spoken to
    return {"to": to, "lines": len(body.splitlines()), "key": ctx.idempotency_key}
