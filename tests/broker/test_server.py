"""The embedded nats-server, and what it tells about others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.connection import Message, connect
from echelon_infra.server import NatsServer, ServerFailed
from support.eventually import eventually
from support.lab import nats_lab

CLIENT = """
import asyncio, sys
from echelon_infra.jetstream.connection import connect
async def main():
    await connect(sys.argv[1], sys.argv[2])
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
PARENT = """
import sys, pathlib
from echelon_infra.server import NatsServer
server = NatsServer(pathlib.Path(sys.argv[1]), port=0, user="app", password="")
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


async def test_trap_a_killed_client_is_known_within_a_second_and_a_frozen_one_is_not(tmp_path: Path) -> None:
    """The server's disconnect event reaches the application's account, with the name of who is gone."""
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("region")
        gone: dict[str, float] = {}

        def note(message: Message) -> None:
            gone[json.loads(message.data)["client"]["name"]] = time.monotonic()

        await bus.subscribe(names.DISCONNECTS, note)
        await bus.flush()
        victims = {name: names.connection_name("worker", "east", name) for name in ("killed", "frozen")}
        processes = {}
        for name, connection_name in victims.items():
            command = [sys.executable, "-c", CLIENT, lab.url, connection_name]
            processes[name] = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        for process in processes.values():
            assert process.stdout is not None and await process.stdout.readline() == b"up\n"
        processes["frozen"].send_signal(signal.SIGSTOP)
        killed = time.monotonic()
        processes["killed"].kill()
        await eventually(lambda: victims["killed"] in gone, timeout_s=3)
        assert gone[victims["killed"]] - killed < 1
        assert victims["frozen"] not in gone
        processes["frozen"].kill()
        for process in processes.values():
            await process.wait()


async def test_data_and_password_survive_kill_and_new_start(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", port=0, user="echelon", password="")
    server.start()
    try:
        assert server.alive() and server.pid > 0
        bus = await connect(server.url, "me")
        await topology.ensure_hub(bus)
        await bus.request(names.ADMITTED, b"", timeout_s=1)
        server.kill()
        assert not server.alive()
        server.start()
        again = NatsServer(tmp_path / "nats", port=server.port, user="echelon", password="")
        assert again.url == server.url
        assert await topology.last_sequence(bus, names.LEDGER) == 1
        await bus.close()
        for private in ("nats-password", "nats-server.conf"):
            assert stat.S_IMODE((tmp_path / "nats" / private).stat().st_mode) == 0o600
        with pytest.raises(ServerFailed, match="taken"):
            again.start()
    finally:
        server.stop()
    assert not server.alive()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where a folder should be")
    server = NatsServer(tmp_path, port=0, user="echelon", password="")
    with pytest.raises(ServerFailed, match="storage"):
        server.start()


async def test_the_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    pipe = subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(*command, stdout=pipe, stdin=pipe)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    await parent.wait()

    def ended() -> bool:
        try:
            return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return True

    await eventually(ended, timeout_s=5)


async def test_every_write_is_synced_when_asked_for(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, port=0, user="echelon", password="", sync_always=True)
    server.start()
    try:
        bus = await connect(server.url, "me")
        await topology.ensure_hub(bus)
        assert b'"seq":1' in await bus.request(names.ADMITTED, b"", timeout_s=5)
        await bus.close()
    finally:
        server.stop()
