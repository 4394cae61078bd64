"""A child: loads the application, says what it offers, runs what it is sent. It knows no broker.

Started by a worker as `python -m echelon.child '{"socket": 3, "state": 4, …}'` (`wire.child.Start`).
It lives as long as the other end of its socket.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from echelon.child.async_slots import AsyncSlots
from echelon.child.frames import frame
from echelon.child.loader import LoadError, load
from echelon.child.page import Page
from echelon.child.plan import plans
from echelon.child.sync_slot import SyncSlot
from echelon.wire.child import Hello, Kind, Start, TypeInfo
from echelon.wire.codec import pack

UNLOADABLE: Final = 2
"""Exit code after FAILED."""


def main(argument: str) -> int:
    start = msgspec.json.decode(argument, type=Start)
    sock = socket.socket(fileno=start.socket)
    page = Page(start.state)
    os.close(start.state)  # what a handler starts has no use for it
    _keep_to_ourselves(sock, page)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches whole groups; the supervisor decides
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        tasks = load(start.app)
    except LoadError as error:
        sock.sendall(frame(Kind.FAILED, 0, str(error).encode()))
        return UNLOADABLE
    types = [
        TypeInfo(task.name, task.lane, ((task.function.__doc__ if task.function else "") or "")[:500])
        for task in tasks.values()
    ]
    sock.sendall(frame(Kind.HELLO, 0, pack(Hello(os.getpid(), types))))
    ready = plans(tasks, start.lane)
    gc.collect()
    gc.freeze()  # the application stays; collections need not look at it again
    if start.lane == "sync":
        SyncSlot(ready, page, sock).serve()
        return 0
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(_serve(sock, lambda: AsyncSlots(ready, start.slots, page)))
    return 0


async def _serve(sock: socket.socket, make: Callable[[], AsyncSlots]) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    await loop.connect_accepted_socket(make, sock)
    await loop.create_future()  # the slots end the process


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _keep_to_ourselves(sock: socket.socket, page: Page) -> None:
    """What a handler forks or starts must not hold the socket open, nor write to it."""
    fd = sock.fileno()
    sock.set_inheritable(False)
    nowhere = os.open(os.devnull, os.O_RDWR)

    def forked() -> None:
        os.dup2(nowhere, fd, inheritable=False)
        page.forsake()

    os.register_at_fork(after_in_child=forked)
