"""What dies, and when. Chosen by a seed; every kill is written down with the processes that it took."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from echelon_infra.jetstream.connection import connect
from echelon_infra.jetstream.lease import read_lease, revoke
from support.cluster import Cluster
from support.eventually import eventually

CHILD: Final = "child of "
EVERYTHING: Final = "everything"


class Nemesis:
    def __init__(self, cluster: Cluster, journal: Path, seed: int) -> None:
        self._cluster = cluster
        self._log = open(journal, "a", buffering=1)
        self.chance = random.Random(seed)

    def victims(self) -> list[str]:
        """Each process once, a child of each worker, the server twice; in an order of chance."""
        found = list(self._cluster.pids())
        found += [CHILD + name for name in found if name.startswith("worker-")]
        found += ["nats-server", EVERYTHING]
        self.chance.shuffle(found)
        return found

    async def strike(self, victim: str) -> None:
        """Kill it, and wait until it is back."""
        if victim == EVERYTHING:
            await self._everything()
        elif victim.startswith(CHILD):
            worker = victim.removeprefix(CHILD)
            children = self._cluster.children_of(worker)
            if children:
                pid = self.chance.choice(children)
                self._note(victim, [pid])
                _kill(pid)
        else:
            await eventually(lambda: self._lives(victim), timeout_s=20)
            pid = self._cluster.pids()[victim]
            self._note(victim, [pid, *self._cluster.children_of(victim)])
            self._cluster.kill(victim)
            await self._cluster.back(victim, pid)

    def _lives(self, victim: str) -> bool:
        """It may still be coming back from what befell it before."""
        return psutil.pid_exists(self._cluster.pids()[victim])

    async def _everything(self) -> None:
        """`up` itself: the kernel takes all others with it. Then it is started again."""
        pids = [process.pid for process in self._cluster.processes()]
        self._note(EVERYTHING, pids)
        _kill(self._cluster.up_pid)
        await asyncio.to_thread(_wait_gone, pids)
        await self._cluster.start()

    async def depose(self, key: str) -> bool:
        """Take the lease from a leader that is alive and busy: whoever stands by begins at once."""
        bus = await connect(self._cluster.nats_url, "nemesis")
        held = await read_lease(bus, key)
        taken = held is not None and await revoke(bus, key, held[1])
        await bus.close()
        return taken

    def _note(self, name: str, pids: Sequence[int]) -> None:
        self._log.write(json.dumps({"at": time.monotonic(), "name": name, "pids": list(pids)}) + "\n")

    def close(self) -> None:
        self._log.close()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _wait_gone(pids: Sequence[int], timeout_s: float = 10.0) -> None:
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(found, timeout=timeout_s)
