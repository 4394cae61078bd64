"""The main path as an application walks it: through the SDK, every kind of handler, every way to wait."""

from __future__ import annotations

import asyncio

import pytest

from echelon import Client, remote
from echelon.errors import AlreadyEnded, NotFound, TaskCancelled, TaskFailed, TaskIdConflict
from echelon.sync import SyncClient
from support.cluster import Cluster


@pytest.mark.parametrize(
    ("kind", "arguments", "result"),
    [
        ("add", {"a": 2, "b": 3}, 5),
        ("add", {"a": 2}, 3),
        ("echo", {"value": {"deep": [1, None, "ü", 1.5, 2**63]}}, {"deep": [1, None, "ü", 1.5, 2**63]}),
        ("echo", {}, None),
        ("critical_analysis", {}, "at once"),
        ("processing", {"data": "d"}, {"data": "d", "parameters": None}),
    ],
)
async def test_a_result_comes_back(
    shared: Cluster, kind: str, arguments: dict[str, object], result: object
) -> None:
    async with shared.client() as client:
        handle = await client.submit(kind, **arguments)
        assert await handle.result(timeout=20) == result
        assert await handle.status() == "completed"


async def test_a_value_that_is_no_object_is_one_argument(shared: Cluster) -> None:
    async with shared.client() as client:
        handle = await client.submit("DATA_PROCESSING", "text")
        assert await handle.result(timeout=20) == {"text": "text"}


async def test_five_thousand_in_order_with_results_of_all(shared: Cluster) -> None:
    async with shared.client() as client:
        echo = remote("echo")
        handles = [handle async for handle in client.submit_many(echo.bind(value=n) for n in range(5000))]
        assert await client.results(handles, timeout=60) == list(range(5000))
        assert len({handle.id for handle in handles}) == 5000
        assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)


async def test_single_submits_of_many_callers_are_coalesced_and_kept_apart(shared: Cluster) -> None:
    async with shared.client() as client:
        handles = await asyncio.gather(*[client.submit("echo", value=n) for n in range(500)])
        assert await client.results(handles, timeout=30) == list(range(500))


async def test_another_client_finds_the_task_by_its_id(shared: Cluster) -> None:
    async with shared.client() as one, shared.client() as other:
        handle = await one.submit(remote("echo", id="by-id"), value=1)
        await handle.result(timeout=20)
        seen = await other.get("by-id")
        assert (seen["status"], seen["result"], seen["error"]) == ("completed", 1, None)
        with pytest.raises(NotFound):
            await other.get("nobody-knows-it")


async def test_the_same_id_is_the_same_task_and_other_content_is_refused(shared: Cluster) -> None:
    async with shared.client() as client:
        first = await client.submit(remote("echo", id="same"), value=1)
        again = await client.submit(remote("echo", id="same"), value=1)
        assert (first.id, first.ref) == (again.id, again.ref)
        assert await again.result(timeout=20) == 1
        with pytest.raises(TaskIdConflict):
            await client.submit(remote("echo", id="same"), value=2)


async def test_a_failure_is_raised_with_what_was_raised_there(shared: Cluster) -> None:
    async with shared.client() as client:
        handle = await client.submit(remote("raises", retries=0), message="of its own")
        with pytest.raises(TaskFailed, match="of its own") as caught:
            await handle.result(timeout=20)
        assert caught.value.type == "ValueError" and "app.py" in caught.value.remote_traceback


async def test_a_cancel_is_raised_and_a_second_one_comes_too_late(shared: Cluster) -> None:
    async with shared.client() as client:
        handle = await client.submit("sleeps")
        with pytest.raises(TimeoutError):
            await handle.result(timeout=0.2)
        await handle.cancel("enough")
        with pytest.raises(TaskCancelled):
            await handle.result(timeout=20)
        with pytest.raises(AlreadyEnded):
            await handle.cancel()


@pytest.mark.parametrize("size", [5_000, 120_000, 300_000, 3_000_000])
async def test_payloads_and_results_of_every_size_come_through(shared: Cluster, size: int) -> None:
    """Above 4 KiB read back by the region, above 128 KiB through the object store."""
    async with shared.client() as client:
        text = "x" * size
        first = await client.submit("echo", value=text)
        assert await first.result(timeout=30) == text
        then = await client.submit(remote("gather", dependencies=[first]))
        assert await then.result(timeout=30) == {first.id: text}


async def test_many_middling_payloads_wait_on_disk_and_keep_their_order(shared: Cluster) -> None:
    async with shared.client() as client:
        echo = remote("echo")
        sizes = [(n * 37) % 9000 for n in range(600)]
        handles = [h async for h in client.submit_many(echo.bind(value=f"{n}" + "y" * n) for n in sizes)]
        assert await client.results(handles, timeout=60) == [f"{n}" + "y" * n for n in sizes]


async def test_the_context_tells_attempt_and_key(shared: Cluster) -> None:
    async with shared.client() as client:
        handles = [await client.submit("who") for _ in range(3)]
        seen = await client.results(handles, timeout=20)
        assert all(one["attempt"] == 1 for one in seen) and len({one["key"] for one in seen}) == 3


async def test_blocking_code_has_the_same(shared: Cluster) -> None:
    def blocking() -> tuple[object, list[int], str]:
        with SyncClient(shared.nats_url) as client:
            one = client.submit("add", a=1, b=1)
            many = list(client.submit_many(remote("echo").bind(value=n) for n in range(50)))
            return one.result(timeout=20), client.results(many, timeout=20), client.status(one.id)

    assert await asyncio.to_thread(blocking) == (2, list(range(50)), "completed")


async def test_results_of_tasks_that_ended_before_anyone_asked(shared: Cluster) -> None:
    async with Client(shared.nats_url) as client:
        handles = [h async for h in client.submit_many(remote("echo").bind(value=n) for n in range(20))]
        for handle in handles:
            await shared.ended(handle.id)
        assert await client.results(handles, timeout=20) == list(range(20))
