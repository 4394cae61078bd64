"""A state comes back from its newest good snapshot and the tail, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.connection import Bus
from echelon_infra.jetstream.errors import BrokerError
from echelon_infra.leader.recover import Gap, recover
from echelon_infra.leader.snapshot import Snapshots, Unwritten, write_aside
from support.lab import nats_lab

STREAM, SUBJECT = "numbers", "numbers.all"


class Sum:
    """A fold that adds up what its log says, and remembers how much of it was read."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.read = 0

    def apply(self, entry: tail.Entry) -> None:
        self.total += int(entry.data)
        self.read += 1


class Scene:
    def __init__(self, bus: Bus, folder: Path) -> None:
        self.bus = bus
        self.file = folder / "aside" / "file"
        self.blobs = Blobs(bus)
        self.snapshots = Snapshots(self.blobs, "sum", "first stream")

    async def write(self, *numbers: int) -> None:
        for number in numbers:
            await self.bus.request(SUBJECT, str(number).encode(), timeout_s=2)

    async def snapshot(self, seq: int, total: int) -> None:
        await write_aside(self.file, lambda: (str(digit).encode() for digit in str(total)))
        await self.snapshots.save(seq, self.file)

    async def recovered(self, upto: int, not_beyond: int = 1 << 60) -> tuple[int, int]:
        """Total, and how many entries were read for it."""
        state = await recover(
            self.bus,
            STREAM,
            self.snapshots,
            upto=upto,
            not_beyond=not_beyond,
            fresh=Sum,
            load=lambda chunks: Sum(int(b"".join(chunks))),
            apply=Sum.apply,
        )
        return state.total, state.read


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("test")
        await topology.ensure_hub(bus)
        await bus.api(
            f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [SUBJECT], "allow_direct": True}
        )
        yield Scene(bus, tmp_path)


async def test_the_newest_snapshot_and_the_tail_are_the_whole(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.write(1, 20, 300)
        assert await s.recovered(3) == (321, 3)
        await s.snapshot(2, 21)
        assert await s.recovered(3) == (321, 1)
        await s.snapshot(3, 321)
        await s.write(4000)
        assert await s.recovered(4) == (4321, 1)
        assert await s.recovered(4, not_beyond=2) == (4321, 2), "an index is only as far as that"
        assert await s.recovered(4, not_beyond=1) == (4321, 4)


async def test_of_a_damaged_snapshot_the_one_before_is_taken_and_then_the_log(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.write(1, 20, 300)
        await s.snapshot(1, 1)
        await s.snapshot(2, 21)
        await s.blobs.put("snapshot-sum-2-0", b"something else")
        assert await s.recovered(3) == (321, 2)
        await s.blobs.delete("snapshot-sum-1-0")
        assert await s.recovered(3) == (321, 3)
        await s.blobs.put("snapshots-sum", b"no list")
        assert await s.recovered(3) == (321, 3)


async def test_one_that_this_release_cannot_read_is_passed_over(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.write(1, 20)
        await s.snapshot(1, 1)
        await write_aside(s.file, lambda: [b"of the future"])
        await s.snapshots.save(2, s.file)
        assert await s.recovered(2) == (21, 1)


async def test_two_are_kept_and_those_of_another_stream_are_not_ours(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for seq in (1, 2, 3):
            await s.snapshot(seq, seq)
        assert await s.snapshots.sequences(9) == [3, 2]
        assert await s.blobs.names("snapshot-sum-") == ["snapshot-sum-2-0", "snapshot-sum-3-0"]
        s.snapshots = Snapshots(s.blobs, "sum", "stream made anew")
        assert await s.snapshots.sequences(9) == []
        await s.snapshot(1, 1)
        assert await s.snapshots.sequences(9) == [1]
        assert await s.blobs.names("snapshot-sum-") == ["snapshot-sum-1-0"]


async def test_what_a_writer_left_that_died_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        await s.write(1, 20)
        await s.snapshot(1, 1)
        put, stored = Blobs.put, []

        async def dies(blobs: Blobs, name: str, data: bytes) -> None:
            await put(blobs, name, data)
            stored.append(name)
            if name.startswith("snapshot-"):
                raise BrokerError("killed here")

        with monkeypatch.context() as patched, pytest.raises(BrokerError):
            patched.setattr(Blobs, "put", dies)
            await s.snapshot(2, 21)
        assert "snapshot-sum-2-0" in stored
        assert await s.recovered(2) == (21, 1), "the one before is still good"
        await s.write(300)
        await s.snapshot(3, 321)
        assert await s.blobs.names("snapshot-sum-") == ["snapshot-sum-1-0", "snapshot-sum-3-0"]


async def test_nothing_starts_on_half_of_the_truth(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.write(1, 20, 300, 4000)
        await s.bus.api(f"STREAM.PURGE.{STREAM}", {"seq": 3})
        with pytest.raises(Gap):
            await s.recovered(4)
        await s.snapshot(2, 21)
        assert await s.recovered(4) == (4321, 2)
        with pytest.raises(Gap):
            await s.recovered(5)


async def test_a_child_that_fails_is_noticed_and_what_was_written_before_stays(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.write(1)
        await s.snapshot(1, 1)
        with pytest.raises(Unwritten):
            await write_aside(s.file, lambda: (bytes(0 // n) for n in (1, 0)))
        assert await s.recovered(1) == (1, 0)


async def test_a_large_state_is_stored_in_parts(tmp_path: Path) -> None:
    """Random digits do not compress: more than one part of 4 MiB."""
    import random

    async with scene(tmp_path) as s:
        await s.write(1)
        chunks = [random.Random(n).randbytes(1 << 20) for n in range(6)]
        await write_aside(s.file, lambda: chunks)
        await s.snapshots.save(1, s.file)
        assert await s.snapshots.load(1) == chunks
        assert len(await s.blobs.names("snapshot-sum-")) == 2
