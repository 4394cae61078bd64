"""The embedded nats-server under supervision: alive, and able to write.

A full disk freezes a stream until the server is restarted, even after space was freed, while its shallow
health check stays green. So the full one is asked, and a server that says it cannot write is restarted; ever
more slowly, for the disk may still be full.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from echelon_infra.server import NatsServer, ServerFailed
from echelon_ops.fetch import Answer, get
from echelon_ops.folder import Folder, Server
from echelon_ops.supervise import answer

LOOK_S: Final = 0.1
HEALTH_EVERY_S: Final = 5.0
SILENT_LIMIT: Final = 6
FROZEN_FIRST_S: Final = 30.0
FROZEN_LONGEST_S: Final = 600.0


class Health(msgspec.Struct, frozen=True):
    """What several looks at the server have shown so far."""

    silent: int = 0  # looks in a row without any answer
    frozen_restarts: int = 0  # restarts in a row because it could not write
    not_before: float = 0.0  # the next such restart


def judge(health: Health, seen: Answer | None, now: float) -> tuple[Health, str]:
    """What to believe after another look and, if the server has to be restarted, why (else "").

    Recovery answers 503 too, and must not be cut short: only words about writing count.

    >>> judge(Health(), Answer(503, b'{"error":"write error: no space left on device"}'), 100.0)
    (Health(silent=0, frozen_restarts=1, not_before=130.0), 'it cannot write: no space left on device')
    """
    if seen is None:
        if health.silent + 1 >= SILENT_LIMIT:
            return Health(), "it does not answer"
        return msgspec.structs.replace(health, silent=health.silent + 1), ""
    if seen.status == 200:
        return Health(), ""
    said = seen.body.decode("utf-8", "replace")
    _, found, why = said.partition("write error")
    if not found or now < health.not_before:
        return msgspec.structs.replace(health, silent=0), ""
    pause_s = min(FROZEN_LONGEST_S, FROZEN_FIRST_S * 2**health.frozen_restarts)
    why = why.strip(': "}\n').rpartition(": ")[2] or "see its log"
    return Health(0, health.frozen_restarts + 1, now + pause_s), f"it cannot write: {why}"


class Broker:
    """`tell` shows a line to a person; `changed` is called after a restart."""

    def __init__(
        self, folder: Folder, made: Server, tell: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._server = NatsServer(
            folder.path / "nats", port=made.port, user=made.user, password=made.password
        )
        self._tell, self._changed = tell, changed
        self._started_at = 0.0
        self._in_a_row = 0

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def port(self) -> int:
        return self._server.port

    def alive(self) -> bool:
        return self._server.alive()

    @property
    def monitoring(self) -> str:
        """Where it answers questions about itself; may change with a restart."""
        return f"http://127.0.0.1:{self._server.monitoring}"

    @property
    def log(self) -> Path:
        return self._server.log

    def spawn(self) -> None:
        """Start it without waiting; from the main thread, whose end is the server's.

        Raises:
            ServerFailed: there is no nats-server to start.
        """
        self._started_at = time.monotonic()
        self._server.spawn()

    async def ready(self) -> None:
        """Returns when clients are served and all streams recovered.

        Raises:
            ServerFailed: it ended, or is not ready after a minute; with the last lines of its log.
        """
        await asyncio.to_thread(self._server.wait_ready)

    async def watch(self) -> None:
        """Restart it when it died or cannot write. Runs until cancelled."""
        await self.ready()
        health, asked_at = Health(), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            if not self._server.alive():
                await self._again("ended")
                health = Health()
            elif time.monotonic() - asked_at >= HEALTH_EVERY_S:
                asked_at = time.monotonic()
                health, why = judge(health, await get(f"{self.monitoring}/healthz"), asked_at)
                if why:
                    self._server.kill()
                    await self._again(f"was ended: {why}")

    async def _again(self, what: str) -> None:
        while True:
            said = answer(time.monotonic() - self._started_at, self._in_a_row, 1)
            self._in_a_row = said.in_a_row
            self._tell(f"nats-server {what}; it is started again.")
            await asyncio.sleep(said.delay_s)
            try:
                self.spawn()
                await self.ready()
            except ServerFailed as error:
                self._server.kill()
                what = f"did not start: {error}"
            else:
                self._changed()
                return

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.kill()
