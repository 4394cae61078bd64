"""Real nats-servers for a test: one, or a cluster of three, on free ports, each in a folder of its own.

async with nats_lab(tmp_path) as lab:
    bus = await lab.bus("me")
    lab.kill()
    await lab.restart()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from echelon_infra.jetstream.connection import Bus, connect
from echelon_infra.server import NatsServer, free_port
from support.proxy import Proxy, proxied

__all__ = ["Lab", "Proxy", "nats_lab", "proxied"]


class Member(NatsServer):
    """A server of a cluster."""

    def __init__(self, data: Path, cluster: list[int], number: int) -> None:
        super().__init__(data, port=0, user="app", password="lab")
        self._cluster = cluster
        self._number = number

    def configuration(self) -> str:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._cluster)
        listen = f"127.0.0.1:{self._cluster[self._number]}"
        return f'{super().configuration()}cluster {{ name: "lab", listen: "{listen}", routes: [{routes}] }}\n'


class Lab:
    def __init__(self, servers: list[NatsServer]) -> None:
        self.servers = servers
        self._buses: list[Bus] = []

    @property
    def url(self) -> str:
        """Of all servers, with commas."""
        return ",".join(server.url for server in self.servers)

    @property
    def replicas(self) -> int:
        return len(self.servers)

    async def bus(self, name: str, url: str = "") -> Bus:
        """A connection that ends with the lab."""
        bus = await connect(url or self.url, name, wait_s=10)
        self._buses.append(bus)
        return bus

    def kill(self, number: int = 0) -> None:
        """kill -9 of one server."""
        self.servers[number].kill()

    async def restart(self, number: int = 0) -> None:
        """Start a server that was killed, and wait until it is ready."""
        server = self.servers[number]
        server.spawn()  # from this thread: the server dies with the thread that made it
        await asyncio.to_thread(server.wait_ready)

    async def leader(self, stream: str) -> int:
        """The number of the server that leads this stream."""
        bus = next(bus for bus in self._buses if bus.is_connected)
        info = await bus.api(f"STREAM.INFO.{stream}")
        return next(
            number
            for number, server in enumerate(self.servers)
            if info["cluster"]["leader"] == f"echelon-{server.port}"
        )

    async def _end(self) -> None:
        for bus in self._buses:
            await bus.close()
        for server in self.servers:
            server.kill()


@asynccontextmanager
async def nats_lab(tmp_path: Path, nodes: int = 1) -> AsyncIterator[Lab]:
    if nodes == 1:
        servers = [NatsServer(tmp_path / "nats", port=0, user="app", password="lab")]
    else:
        cluster = [free_port() for _ in range(nodes)]
        servers = [Member(tmp_path / f"nats-{number}", cluster, number) for number in range(nodes)]
    lab = Lab(servers)
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            await asyncio.to_thread(server.wait_ready)
        yield lab
    finally:
        await lab._end()
