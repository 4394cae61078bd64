"""The object store."""

from __future__ import annotations

import os
from pathlib import Path

import nats
import pytest

from echelon.wire.names import BLOBS
from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.blobs import Blobs
from echelon_infra.jetstream.errors import BrokerError
from support.eventually import eventually
from support.lab import nats_lab


async def test_blobs_come_back_are_replaced_listed_and_deleted_without_a_trace(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        blobs = Blobs(bus)
        big, small = os.urandom(3_000_001), b"x"
        await blobs.put("p-1", big)
        await blobs.put("p-2", small)
        await blobs.put("r-1", b"")
        assert (
            await blobs.get("p-1") == big
            and await blobs.get("p-2") == small
            and await blobs.get("r-1") == b""
        )
        assert await blobs.get("p-3") is None
        await blobs.put("p-1", small)
        assert await blobs.get("p-1") == small
        assert await blobs.names("p-") == ["p-1", "p-2"] and await blobs.names("") == ["p-1", "p-2", "r-1"]
        for name in ("p-1", "p-2", "r-1", "never"):
            await blobs.delete(name)
        assert await blobs.get("p-1") is None and await blobs.names("") == []
        info = await bus.api(f"STREAM.INFO.{names.BLOBS_STREAM}")
        assert info["state"]["messages"] == 0


async def test_nats_own_clients_read_and_write_the_same_store(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        connection = await nats.connect(lab.url)
        theirs = await connection.jetstream().object_store(BLOBS)
        ours = Blobs(bus)
        data = os.urandom(400_000)
        await ours.put("ours", data)
        assert (await theirs.get("ours")).data == data
        await theirs.put("theirs", data)
        assert await ours.get("theirs") == data
        await theirs.delete("theirs")
        assert await ours.get("theirs") is None and await ours.names("") == ["ours"]
        await connection.close()


async def test_a_damaged_blob_is_an_error_and_a_kill_in_between_is_none(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_hub(bus)
        blobs = Blobs(bus)
        data = os.urandom(300_000)
        await blobs.put("p-1", data)
        lab.kill()
        await lab.restart()
        assert await blobs.get("p-1") == data
        await blobs.put("p-2", data)
        await topology.delete_messages(bus, names.BLOBS_STREAM, [1])
        await bus.publish(f"$O.{BLOBS}.C.{(await blobs._find('p-1') or pytest.fail()).nuid}", b"foreign")

        async def damaged() -> bool:
            try:
                return await blobs.get("p-1") is None
            except BrokerError as error:
                return "damaged" in str(error)

        await eventually(damaged)
        assert await blobs.get("p-2") == data
