"""How a leader gets its state back: the newest good snapshot and the tail of its log."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.connection import Bus
from echelon_infra.leader.snapshot import Snapshots
from echelon_infra.telemetry import logs

log: Final = logs.get("leader")

StateT = TypeVar("StateT")


class Gap(Exception):
    """The log lacks entries that no snapshot covers. Nothing is started on half of the truth."""


async def recover(
    bus: Bus,
    stream: str,
    snapshots: Snapshots,
    *,
    upto: int,
    not_beyond: int,
    fresh: Callable[[], StateT],
    load: Callable[[list[bytes]], StateT],
    apply: Callable[[StateT, tail.Entry], None],
) -> StateT:
    """The state at `upto`, from a snapshot at or below `not_beyond` and every entry after it.

    `load` may refuse what it cannot read with ValueError or a msgspec error: then an older one is tried.

    Raises:
        Gap: entries are missing. BrokerError: the server was away for long.
    """
    end = await topology.last_sequence(bus, stream)
    if end < upto:
        raise Gap(f"{stream} ends at {end} instead of {upto}")
    state, at = fresh(), 0
    for seq in await snapshots.sequences(not_beyond):
        try:
            parts = await snapshots.load(seq)
            if parts is not None:
                state, at = load(parts), seq
                break
        except (ValueError, zlib.error, msgspec.MsgspecError) as error:
            log.warning("snapshot unreadable", sequence=seq, error=str(error))
        else:
            log.warning("snapshot damaged", sequence=seq)
    async for batch in tail.read(bus, stream, after=at, upto=upto):
        for entry in batch:
            if entry.seq != at + 1:
                raise Gap(f"{stream} goes from {at} to {entry.seq}, and no snapshot covers what lies between")
            at = entry.seq
            apply(state, entry)
    if at < upto:
        raise Gap(f"{stream} lacks what lies between {at} and {upto}")
    return state
