"""Snapshots of a region's state, so that a leader need not read both logs from their beginnings.

A snapshot stands for the own log up to its sequence and for the ledger up to the position in the state; it is
stored only when that sequence is durable, for a deposed leader's last entries never happened.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from echelon_core import names
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.leader.snapshot import Snapshots, Unwritten, write_aside
from echelon_infra.telemetry import logs
from echelon_regional.doors import Floor
from echelon_regional.state import RegionState

log = logs.get("regional")

LOOK_S: Final = 5.0
TASKS_BETWEEN: Final = 50_000


class Keeper:
    """Writes and reads the snapshots of one region."""

    def __init__(self, bus: Bus, region: str, folder: Path) -> None:
        self._region = region
        self._file = folder / "regional" / f"{region}.snapshot"
        self._snapshots = Snapshots(Blobs(bus), f"region-{region}", names.region_log(region))
        self._judged = 0

    async def newest(self, upto: int) -> RegionState:
        """The state of the newest good snapshot at or below `upto`, or the state of the beginning."""
        for seq in await self._snapshots.sequences(upto):
            parts = await self._snapshots.load(seq)
            if parts is None:
                log.warning("snapshot damaged", sequence=seq)
                continue
            try:
                return RegionState.load(parts[0])
            except msgspec.MsgspecError as error:
                log.warning("snapshot unreadable", sequence=seq, error=str(error))
        return RegionState(self._region)

    async def run(self, floor: Floor) -> None:
        """Save whenever enough has been judged since the last time."""
        while True:
            await asyncio.sleep(LOOK_S)
            if floor.judged_tasks - self._judged >= TASKS_BETWEEN:
                await self.save(floor)

    async def save(self, floor: Floor) -> None:
        """One snapshot of now. A failure is no harm: the logs are the truth."""
        seq, judged = floor.state.sequence, floor.judged_tasks
        if judged == self._judged:
            return
        try:
            await write_aside(self._file, lambda: [floor.state.dump()])
            await floor.own.settle()
            await self._snapshots.save(seq, self._file)
        except (BrokerError, Unwritten, OSError) as error:
            log.warning("snapshot not written", sequence=seq, error=str(error))
            return
        self._judged = judged
        log.info("snapshot", sequence=seq, tasks=len(floor.state.tasks))
