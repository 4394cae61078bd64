"""The web node as a process. It owns no truth: killed at any moment, it starts again from its file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from echelon_core.names import connection_name
from echelon_infra.jetstream.connection import Bus, connect
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.process import BAD_INPUT, DEPOSED, NO_SERVER, OK, run, stop_event
from echelon_infra.settings import Settings
from echelon_infra.telemetry import logs
from echelon_web.app import build
from echelon_web.node import Node, running
from echelon_web.readmodel.store import Busy

log = logs.get("web")
GRACE_S: Final = 2.0
"""What a request under way has to end in; streams to browsers end at once."""
_BACKLOG: Final = 2048


class Server(uvicorn.Server):
    """Signals are ours (`process.stop_event`): uvicorn would raise them again when it is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(settings: Settings) -> int:
    """Serve until told to stop.

    0 stopped · 2 the port is taken · 5 no server · 70 cut off, or the read model is damaged: start again
    """
    return run(serve(settings))


async def serve(settings: Settings) -> int:
    stop = stop_event()
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        log.error(
            "cannot listen", host=settings.host, port=settings.port, error=error.strerror,
            mend="Stop what uses that port, or choose another with --port.",
        )  # fmt: skip
        return BAD_INPUT
    with listener:
        try:
            bus = await _connected(settings, stop)
        except BrokerError as error:
            log.error("no server", url=settings.nats_url.rpartition("@")[2], error=str(error))
            return NO_SERVER
        if bus is None:
            return OK
        lost = asyncio.Event()
        bus.on_closed.append(lost.set)
        try:
            async with running(settings, bus) as node:
                await _serve(node, bus, listener, stop, lost)
                failed = lost.is_set() or node.broken.is_set()
        except Busy as error:
            log.error("the read model is taken", error=str(error))
            return BAD_INPUT
        finally:
            await bus.close()
    return DEPOSED if failed and not stop.is_set() else OK


async def _connected(settings: Settings, stop: asyncio.Event) -> Bus | None:
    """None: told to stop before there was a server."""
    name = connection_name("web", "-", str(os.getpid()))
    connecting = asyncio.create_task(connect(settings.nats_url, name))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([connecting, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not connecting.done():
        connecting.cancel()
        return None
    return await connecting


async def _serve(
    node: Node, bus: Bus, listener: socket.socket, stop: asyncio.Event, lost: asyncio.Event
) -> None:
    config = uvicorn.Config(
        build(node),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(GRACE_S),
        timeout_keep_alive=30,
    )
    server = Server(config)
    host, port = listener.getsockname()[:2]
    log.info("serving", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    serving = asyncio.create_task(server.serve([listener]))
    waits = [asyncio.create_task(event.wait()) for event in (stop, lost, node.broken)]
    await asyncio.wait([serving, *waits], return_when=asyncio.FIRST_COMPLETED)
    node.stopping.set()
    server.should_exit = True
    await serving
    for wait in waits:
        wait.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port which is taken is known before anything is started.

    Raises:
        OSError: it is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
