"""Streams and consumers: made once, brought up to date, the same on one server and on three."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon_core import names
from echelon_infra.jetstream import topology
from echelon_infra.jetstream.errors import ApiError
from support.eventually import eventually
from support.lab import nats_lab


@pytest.mark.parametrize("nodes", [1, 3])
async def test_streams_are_as_the_architecture_says_and_making_them_again_changes_nothing(
    tmp_path: Path, nodes: int
) -> None:
    async with nats_lab(tmp_path, nodes) as lab:
        bus = await lab.bus("me")
        for _ in range(2):
            await topology.ensure_hub(bus, replicas=nodes)
            await topology.ensure_region(bus, "east", replicas=nodes)
            await topology.ensure_lane(bus, "east", "default", "async")
        configs = {}
        for stream in (
            names.LEDGER,
            names.LEASES_STREAM,
            names.BLOBS_STREAM,
            names.outcomes("east"),
            names.region_log("east"),
            names.work("east"),
        ):
            configs[stream] = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        for config in configs.values():
            assert (config["storage"], config["discard"], config["num_replicas"]) == ("file", "new", nodes)
            assert config["allow_direct"] and config["max_age"] == 0
        atomic = {stream for stream, config in configs.items() if config.get("allow_atomic")}
        assert atomic == {names.LEDGER, names.region_log("east"), names.work("east")}
        assert configs[names.work("east")]["retention"] == "workqueue"


async def test_lanes_share_a_queue_and_what_changed_is_brought_up_to_date(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_region(bus, "east")
        for lane in ("async", "sync"):
            await topology.ensure_lane(bus, "east", "default", lane)
        await topology.ensure_lane(bus, "east", "default", "sync", ack_wait_s=5)
        info = await bus.api(f"CONSUMER.INFO.{names.work('east')}.{names.work_consumer('default', 'sync')}")
        assert info["config"]["ack_wait"] == 5 * 10**9
        with pytest.raises(ApiError):
            await topology.lane_delivered(bus, "east", "default", "gpu")
        with pytest.raises(ApiError):
            await topology.ensure_lane(bus, "nowhere", "default", "sync")


async def test_deleting_many_is_pipelined_and_the_last_sequence_stays(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await topology.ensure_region(bus, "east")
        for _ in range(100):
            await bus.publish(names.work_subject("east", "default", "async"), b"x")
        await topology.delete_messages(bus, names.work("east"), range(1, 100))

        async def one_left() -> bool:
            info = await bus.api(f"STREAM.INFO.{names.work('east')}")
            return bool(info["state"]["messages"] == 1)

        await eventually(one_left)
        await topology.purge_subject(bus, names.work("east"), names.work_subjects("east"))
        assert await topology.last_sequence(bus, names.work("east")) == 100
        lab.kill()
        await lab.restart()
        assert await topology.last_sequence(bus, names.work("east")) == 100
