"""Processes beside those of `up`: standbys, and workers that see the server through a proxy."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from echelon_infra.process import PARENT
from echelon_infra.settings import Settings, hand_down


class Companions:
    """Tiers with settings of their own, started again when they end; they die with this process."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        self._tiers: dict[str, tuple[str, Settings]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._keeper: asyncio.Task[None] | None = None

    def start(self, name: str, tier: str, settings: Settings) -> None:
        self._tiers[name] = tier, settings
        self._spawn(name)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    def _spawn(self, name: str) -> None:
        tier, settings = self._tiers[name]
        with open(self._folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "echelon_ops.tier", tier, name],
                cwd=self._folder,
                env={**self._environ, **hand_down(settings), PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _keep(self) -> None:
        while True:
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self._spawn(name)
            await asyncio.sleep(0.2)

    def said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def family(self) -> Iterator[psutil.Process]:
        for process in self._processes.values():
            try:
                found = psutil.Process(process.pid)
                yield from found.children(recursive=True)
                yield found
            except psutil.NoSuchProcess:
                pass

    def end(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        family = list(self.family())
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                pass
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
