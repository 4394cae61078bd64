"""The connection: publish, ask, be told, come back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_MSG_PAYLOAD

from echelon_infra.jetstream.connection import Message, connect
from echelon_infra.jetstream.errors import ApiError, BrokerError, NoResponders, Timeout
from support.eventually import eventually
from support.lab import nats_lab


async def test_ask_and_answer_with_headers(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        one, two = await lab.bus("one"), await lab.bus("two")
        seen: list[Message] = []

        def answer(message: Message) -> None:
            seen.append(message)
            two.send(message.reply, message.data.upper())

        subscription = await two.subscribe("who.*", answer)
        await two.flush()
        assert await one.request("who.me", b"ana", timeout_s=1, headers={"A": "1", "B": "x y"}) == b"ANA"
        assert seen[0].subject == "who.me" and seen[0].headers == {"A": "1", "B": "x y"}
        await subscription.stop()
        await two.flush()
        with pytest.raises(NoResponders):
            await one.request("who.me", timeout_s=1)


async def test_silence_is_a_timeout_and_a_refusal_says_why(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        await bus.subscribe("deaf", lambda message: None)
        with pytest.raises(Timeout):
            await bus.request("deaf", timeout_s=0.05)
        with pytest.raises(ApiError) as refused:
            await bus.api("STREAM.INFO.nothing")
        assert (refused.value.code, refused.value.err_code) == (404, 10059)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0", "x" * 2000])
async def test_what_is_no_subject_never_reaches_the_wire(tmp_path: Path, subject: str) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        with pytest.raises(BrokerError):
            await bus.publish(subject)
        with pytest.raises(BrokerError):
            await bus.publish("fine", reply=subject or " ")
        assert await bus.api("INFO")


async def test_subscriptions_survive_a_kill_and_what_was_published_meanwhile_arrives(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        seen: list[bytes] = []
        back: list[float] = []
        await bus.subscribe("x", lambda message: seen.append(message.data))
        bus.on_reconnect.append(lambda: back.append(bus.connected_at))
        lab.kill()
        await eventually(lambda: not bus.is_connected)
        await bus.publish("x", b"kept")
        with pytest.raises(Timeout):
            await bus.request("x", timeout_s=0.05)
        before = time.time()
        await lab.restart()
        await eventually(lambda: seen == [b"kept"], timeout_s=2)
        assert len(back) == 1 and back[0] >= before


async def test_a_handler_that_raises_does_not_stop_the_others(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        seen: list[bytes] = []

        def broken(message: Message) -> None:
            raise ValueError("mine")

        await bus.subscribe("x", broken)
        await bus.subscribe("x", lambda message: seen.append(message.data))
        await bus.publish("x", b"1")
        await eventually(lambda: seen == [b"1"])


async def test_trap_a_reading_task_that_dies_does_not_leave_a_deaf_connection(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        parser = bus._client._ps
        parse = parser.parse

        async def broken(data: bytes = b"") -> None:
            parser.parse = parse
            raise TypeError("a bug in the parser")

        parser.parse = broken
        with pytest.raises(Timeout):
            await bus.api("INFO", timeout_s=0.05)
        await eventually(lambda: bus.is_connected)
        assert await bus.api("INFO")


async def test_wrong_password_is_refused_at_once_and_nobody_there_after_the_wait(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        began = time.monotonic()
        with pytest.raises(BrokerError, match="password"):
            await connect(lab.url.replace("lab", "wrong"), "me", wait_s=5)
        assert time.monotonic() - began < 2
        url = lab.url
    with pytest.raises(Timeout):
        await connect(url, "me", wait_s=0.3)


async def test_an_error_that_no_waiting_mends_closes_for_good(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        closed = asyncio.Event()
        bus.on_closed.append(closed.set)
        bus._client._pending.append(b"NONSENSE\r\n")
        bus._client._pending_data_size += 10
        await bus.publish("x")
        await asyncio.wait_for(closed.wait(), 5)
        with pytest.raises(BrokerError):
            await bus.publish("x")


async def test_trap_a_swallowed_cancellation_leaves_no_reconnecting_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that meets the end of what it waits for."""

    connecting = asyncio.Event()

    async def swallowing(self: Client, server: object) -> None:
        connecting.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise ConnectionRefusedError from None

    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        monkeypatch.setattr(Client, "_connect_to_server", swallowing)
        lab.kill()
        await asyncio.wait_for(connecting.wait(), 5)
        await bus.close()

        def reconnecting() -> list[str]:
            return [text for task in asyncio.all_tasks() if "_attempt_reconnect" in (text := repr(task))]

        await eventually(lambda: not reconnecting(), timeout_s=2)


async def test_trap_the_answer_to_a_flush_that_was_given_up_ends_no_connection(
    tmp_path: Path,
) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        again: list[None] = []
        bus.on_reconnect.append(lambda: again.append(None))
        for _ in range(20):
            flushing = asyncio.ensure_future(bus.flush())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            flushing.cancel()
            await bus.flush()
        assert not again


async def test_trap_half_a_message_of_the_lost_connection_does_not_swallow_the_next(tmp_path: Path) -> None:
    async with nats_lab(tmp_path) as lab:
        bus = await lab.bus("me")
        parser = bus._client._ps

        def cut_short() -> None:
            """What is left when the last bytes came after nats-py had reset its parser."""
            parser.state, parser.needed = AWAITING_MSG_PAYLOAD, 1 << 20
            parser.msg_arg = {"subject": b"x", "sid": 1, "reply": b""}

        lab.kill()
        await eventually(lambda: not bus.is_connected)
        cut_short()
        await lab.restart()
        await eventually(lambda: bus.is_connected)
        await bus.api("INFO", timeout_s=5)
