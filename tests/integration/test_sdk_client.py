"""The client against a real nats-server and a master of a hundred lines."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import echelon
from echelon import (
    AlreadyEnded,
    BadArguments,
    Client,
    Invalid,
    NoServer,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    SyncClient,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    Unavailable,
    remote,
    task,
)
from echelon.wire import names
from echelon.wire.api import (
    Submission,
)
from echelon.wire.codec import from_json
from support.eventually import eventually
from support.lab import Lab, nats_lab
from support.tiny_master import TinyMaster


@task(name="sdk.double")
def double(x: int) -> int:
    return 2 * x


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with nats_lab(tmp_path) as running:
        yield running


@pytest.fixture
async def master(lab: Lab) -> TinyMaster:
    made = TinyMaster(await lab.bus("master"))
    await made.open()
    return made


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[Client]:
    async with Client(lab.url) as made:
        yield made


async def test_submit_and_result(master: TinyMaster, client: Client) -> None:
    handle = await client.submit(double, 21)
    assert await handle.result(timeout=5) == 42
    assert names.ref_of(handle.id) == handle.ref
    assert await handle.status() == "completed"
    assert (await handle.get())["task_id"] == handle.id
    named = await client.submit("by.name", x=4)
    assert await named.result() == 8
    assert await (await client.submit(double.options(id="mine"), 1)).result() == 2
    again = await client.submit(double.options(id="mine"), 1)
    assert (again.id, await again.result()) == ("mine", 2)


async def test_many_callers_are_few_requests_and_few_reads(master: TinyMaster, client: Client) -> None:
    async def one(n: int) -> int:
        return await (await client.submit(double, n)).result(timeout=10)

    assert await asyncio.gather(*(one(n) for n in range(3000))) == [2 * n for n in range(3000)]
    assert master.requests <= 8


async def test_a_lost_answer_never_submits_twice(master: TinyMaster, client: Client) -> None:
    client._coalescer._request = lambda data: client._transport.request(names.SUBMIT, data, 0.2)
    master.lose = 2
    assert await (await client.submit(double, 3)).result(timeout=5) == 6
    assert (master.requests, len(master.tasks)) == (3, 1)


async def test_lost_notices_do_not_hang(
    master: TinyMaster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echelon.ends.ASK_S", 0.1)
    master.silent = True
    assert await (await client.submit(double, 3)).result(timeout=5) == 6


@pytest.mark.parametrize(
    ("task_type", "error", "said"),
    [
        ("failed", TaskFailed, "ValueError: told\n\nTraceback: …"),
        ("dependency_failed", TaskFailed, "DependencyFailed: .*'task-a'"),
        ("cancelled", TaskCancelled, "was cancelled"),
        ("expired", TaskExpired, "expired"),
    ],
)
async def test_other_ends_are_raised(
    master: TinyMaster, client: Client, task_type: str, error: type[Exception], said: str
) -> None:
    handle = await client.submit(task_type)
    with pytest.raises(error, match=said):
        await handle.result(timeout=5)


async def test_a_timeout_leaves_the_task_alone(master: TinyMaster, client: Client) -> None:
    handle = await client.submit("sdk.never")
    with pytest.raises(TimeoutError, match="not ended within"):
        await handle.result(timeout=0.05)
    with pytest.raises(TimeoutError, match="1 of 2"):
        await client.results([handle, await client.submit(double, 1)], timeout=0.2)


async def test_large_payloads_and_results_travel_through_the_object_store(
    master: TinyMaster, client: Client
) -> None:
    payload = "y" * 5_000_000
    handle = await client.submit("length", payload)
    assert await handle.result(timeout=10) == len(payload) + 2
    assert master.tasks[handle.ref].payload == b""
    assert master.tasks[handle.ref].payload_bytes == len(payload) + 2
    assert await (await client.submit("large")).result(timeout=10) == "x" * 9_000_000
    with pytest.raises((Invalid, PayloadTooLarge)):
        await client.submit_raw([Submission("length", b'"' + b"y" * (65 << 20) + b'"')])
    group = [Submission("length", b'"' + b"z" * 100_000 + b'"') for _ in range(20)]
    admitted = await client.submit_raw(group)
    assert sum(1 for ref in admitted.admission.refs() if master.tasks[ref].blob) >= 15


async def test_submit_many_is_in_order_and_flat(master: TinyMaster, client: Client) -> None:
    made = 0

    def tasks() -> Iterator[Submission]:
        nonlocal made
        for n in range(10_000):
            made += 1
            yield double.bind(n)

    master.silent = True
    master.overloaded = 3
    refs = []
    async for handle in client.submit_many(tasks()):
        refs.append(handle.ref)
        assert made <= len(refs) + 6000  # read as it goes
    assert [from_json(master.tasks[ref].payload)["x"] for ref in refs] == list(range(10_000))
    assert master.requests <= 20
    assert not client.ends._waiting


async def test_dependencies_among_many_wait_for_those_before(master: TinyMaster, client: Client) -> None:
    async def tasks() -> AsyncIterator[Submission]:
        for n in range(1500):
            yield double.options(id=f"a-{n}").bind(n)
        yield remote("by.name").options(dependencies=["a-0", "a-1499"]).bind(x=1)

    handles = [handle async for handle in client.submit_many(tasks())]
    assert len(handles) == 1501
    assert await handles[-1].result(timeout=5) == 2
    done = {handle.id async for handle in client.as_completed(handles[:100])}
    assert len(done) == 100
    assert await client.results(handles[:3]) == [0, 2, 4]


async def test_a_bad_task_among_many_is_named_by_its_number(master: TinyMaster, client: Client) -> None:
    tasks = (Submission("t", b'{"x":1}', priority=11 if n == 1200 else 5) for n in range(2000))
    with pytest.raises(Invalid, match=r"tasks\[1200\].priority"):
        async for _handle in client.submit_many(tasks):
            pass


async def test_errors_of_the_caller_send_nothing(master: TinyMaster, client: Client) -> None:
    with pytest.raises(BadArguments):
        await client.submit(double, "x")
    with pytest.raises(Invalid):
        await client.submit_raw([])
    assert master.requests == 0


async def test_refusals_are_raised(master: TinyMaster, client: Client) -> None:
    master.overloaded = 1
    with pytest.raises(Overloaded) as caught:
        await client.submit(double, 1)
    assert caught.value.retry_after_s == 0.01
    for ask in (client.get, client.cancel, client.status):
        with pytest.raises(NotFound):
            await ask("nobody")
    handle = await client.submit(double.options(id="over"), 1)
    with pytest.raises(AlreadyEnded):
        await handle.cancel()
    await client.cancel((await client.submit(double, 1)).id)


async def test_a_task_that_somebody_else_submitted_is_found_at_once(
    lab: Lab, master: TinyMaster, client: Client
) -> None:
    handle = await client.submit(double, 1)
    async with Client(lab.url) as other:
        assert await other.status(handle.id) == "completed"


async def test_nobody_reads(lab: Lab, client: Client) -> None:
    with pytest.raises(Unavailable, match="No reader"):
        await client.get("x")


async def test_the_server_dies_and_comes_back(lab: Lab, master: TinyMaster, client: Client) -> None:
    master.silent = True
    waiting = asyncio.ensure_future((await client.submit(double, 1)).result(timeout=30))
    lab.kill()
    submitting = asyncio.ensure_future(client.submit(double, 5))
    await asyncio.sleep(0.1)
    master.silent = False
    await lab.restart()
    assert await waiting == 2
    assert await (await submitting).result(timeout=20) == 10


async def test_a_dead_reading_task_is_noticed(master: TinyMaster, client: Client) -> None:
    connection = await client._transport.open()
    assert connection._reading_task is not None
    connection._reading_task.cancel()
    await eventually(lambda: connection._reading_task.done())
    assert await (await client.submit(double, 2)).result(timeout=10) == 4


async def test_no_server_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(NoServer, match=r"nats://127.0.0.1:1 \(given\)"):
        await Client("nats://u:secret@127.0.0.1:1").submit(double, 1)
    assert time.monotonic() - began < 10


async def test_wrong_passwords_are_said(lab: Lab) -> None:
    url = lab.url.replace(":lab@", ":wrong@")
    with pytest.raises(NoServer, match="refuses user or password") as caught:
        await Client(url).submit(double, 1)
    assert "wrong" not in str(caught.value)


async def test_the_default_client_finds_the_server(
    lab: Lab, master: TinyMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHELON_NATS_URL", lab.url)
    assert await (await double.submit(4)).result(timeout=5) == 8
    from echelon.client import default_client

    assert default_client() is default_client()
    await default_client().close()


async def test_blocking_twins(lab: Lab, master: TinyMaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHELON_NATS_URL", lab.url)

    def work() -> None:
        with SyncClient(lab.url) as blocking:
            handles = list(blocking.submit_many(double.bind(n) for n in range(2500)))
            assert blocking.results(handles, timeout=10) == [2 * n for n in range(2500)]
            handle = blocking.submit(double, 7)
            assert (handle.result(5), handle.status(), handle.get()["task_id"]) == (
                14,
                "completed",
                handle.id,
            )
            blocking.cancel(handle.id)
            with pytest.raises(NotFound):
                blocking.get("nobody")
            with pytest.raises(TimeoutError):
                blocking.submit("sdk.never").result(0.05)
            for _handle in blocking.submit_many(double.bind(n) for n in range(5000)):
                break  # the rest is dropped without a trace
        assert double.submit_sync(5).result(5) == 10
        assert double.delay(6).result(5) == 12

    await asyncio.to_thread(work)
    assert sum(thread.name == "echelon" for thread in threading.enumerate()) == 1
    echelon.sync.default_client().close()


async def test_handles_are_small(client: Client) -> None:
    gc.collect()
    assert not hasattr(echelon.Handle(client, 1), "__dict__")
