"""A worker on a real server: what it runs, what it reports, when it acks."""

from __future__ import annotations

import json
import time
from pathlib import Path

from echelon.wire.child import CANCELLED, ERROR, FATAL, OK, Input, Ran, join
from echelon.wire.codec import pack
from echelon_core import names
from echelon_infra.jetstream import tail, topology
from echelon_infra.jetstream.blobs import Blobs
from support.eventually import eventually
from support.lab import proxied
from support.worker_lab import REGION, decoded, worker_lab


async def test_a_bundle_of_each_lane_is_run_reported_and_acked(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        fast = await lab.release("quick", 64)
        slow = await lab.release("blocking", 10)
        ran = await lab.settled(fast + slow)
        assert [one.status for one in ran] == [OK] * 74
        assert [decoded(one) for one in ran] == [*range(64), *range(10)]
        assert all(0 < one.started <= one.ended for one in ran)
        assert sorted(lab.journal()) == sorted([*range(64), *range(10)])
        info = await lab.info()
        assert info is not None
        assert info.slots == {"async": 20, "sync": 1}
        assert (info.types["quick"], info.types["blocking"]) == ("async", "sync")


async def test_ack_only_after_the_puback(tmp_path: Path) -> None:
    """While the broker's word does not arrive, the same bytes are sent again and nothing is acked."""
    async with worker_lab(tmp_path) as lab, proxied(lab.lab.url) as proxy:
        await lab.start(url=proxy.url)
        stored = b'"stream":"' + names.outcomes(REGION).encode()
        proxy.swallow = lambda subject, payload: stored in payload
        keys = await lab.release("quick", 3)
        await eventually(lambda: len(lab.ran[keys[0]]) >= 2)
        assert await lab.left() == 1
        first, *copies = [[pack(ran) for ran in message.ran] for message in lab.messages]
        assert all(copy == first for copy in copies)
        proxy.swallow = lambda subject, payload: False
        await lab.settled(keys)
    assert lab.journal() == [0, 1, 2]


async def test_results_and_payloads_too_large_for_a_message_go_through_the_object_store(
    tmp_path: Path,
) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        blobs = Blobs(lab.bus)
        await blobs.put("p-1", json.dumps({"value": "y" * 200_000}).encode())
        keys = await lab.put(
            [lab.run("echo", None, blob="p-1"), lab.run("echo", {"value": 1})], "sync", errands=True
        )
        keys += await lab.release("large", 2)
        ran = await lab.settled(keys)
        assert [one.status for one in ran] == [OK] * 4
        assert [one.blob for one in ran] == [
            f"r-{ref}-{run}" if n != 1 else "" for n, (ref, run) in enumerate(keys)
        ]
        assert await blobs.get(ran[0].blob) == b'"' + b"y" * 200_000 + b'"'
        assert await blobs.get(ran[2].blob) == b'"' + b"x" * 300_000 + b'"'


async def test_results_of_dependencies_are_fetched_from_any_region(tmp_path: Path) -> None:
    """From messages of outcomes, where success counts, or from the object store; what is gone is fatal."""
    async with worker_lab(tmp_path) as lab:
        await topology.ensure_region(lab.bus, "west")
        await Blobs(lab.bus).put("r-9-9", b'"big"')
        items = [
            Ran(8, 1, ERROR, b"", 1, 2),
            Ran(8, 2, OK, b'"small"', 1, 2),
            Ran(9, 9, OK, b"", 1, 2, blob="r-9-9"),
        ]
        subject = names.outcome_subject("west")
        await lab.bus.request(subject, join("w9", [(1, pack(item)) for item in items]), timeout_s=5)
        at = await topology.last_sequence(lab.bus, names.outcomes("west"))
        assert await tail.get(lab.bus, names.outcomes("west"), at) is not None
        await lab.start()
        wanted = {"value": [{"$result": "a"}, {"$result": "b"}]}
        inputs = [Input("a", 8, "west", at), Input("b", 9, "west", at)]
        keys = await lab.put(
            [
                lab.run("echo", wanted, inputs=inputs),
                lab.run("echo", wanted, inputs=[Input("c", 8, "west", at + 1)]),
                lab.run("echo", {"value": 3}),
            ],
            "sync",
            errands=True,
        )
        first, gone, plain = await lab.settled(keys)
        assert decoded(first) == ["small", "big"]
        assert (gone.status, gone.error and gone.error.type) == (FATAL, "InputGone")
        assert decoded(plain) == 3


async def test_starts_of_what_lasts_are_told_and_of_what_is_short_are_not(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        short = await lab.release("quick", 20)
        long = await lab.release("lasting", 2, s=0.8) + await lab.release("blocking", 1, s=0.8)
        await eventually(lambda: {(one.ref, one.run) for one in lab.starts} == set(long))
        assert not any(lab.ran[key] for key in long)
        info = await eventually(lambda: lab.info())
        assert info is not None
        ran = await lab.settled(short + long)
        begun = {(one.ref, one.run): one.at for one in lab.starts}
        assert all(abs(begun[key] - one.started) < 0.05 for key, one in zip(long, ran[20:], strict=True))


async def test_a_handler_sees_no_address_and_no_password_of_the_broker(tmp_path: Path) -> None:
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        [ran] = await lab.settled(await lab.put([lab.run("environment", None)], "sync"))
        seen = decoded(ran)
        assert isinstance(seen, dict)
        assert "PATH" in seen
        assert not [name for name in seen if name.startswith(("ECHELON_", "NATS_"))]
        assert not [name for name, value in seen.items() if "lab@" in value or lab.lab.url in value]


async def test_an_order_to_stop_ends_what_waits_what_sleeps_and_what_blocks(tmp_path: Path) -> None:
    """… and what comes only after the order never begins."""
    async with worker_lab(tmp_path) as lab:
        await lab.start()
        asleep = await lab.release("lasting", 1, s=60)
        blocked = await lab.release("blocking", 2, s=60)
        await eventually(lambda: len(lab.starts) == 2, 10)
        later = lab.run("quick", {"n": 7})
        await lab.stop(*asleep, blocked[0], (later.ref, later.run))
        at = time.monotonic()
        [first] = await lab.ended(asleep)
        assert first.status == CANCELLED
        assert time.monotonic() - at < 1.5
        [struck] = await lab.ended(await lab.put([later], "async"))
        assert struck.status == CANCELLED
        [killed] = await lab.ended(blocked[:1])
        assert killed.status == CANCELLED
        assert time.monotonic() - at >= 1.9  # it had its grace
        [neighbour] = await lab.settled(blocked[1:])
        assert neighbour.status == 6  # handed back: it had not begun
        assert sorted(lab.journal()) == [0, 0]
        assert (await lab.settled(await lab.release("blocking", 1)))[0].status == OK
