"""What the machine does without Echelon, in the same run: absolute figures of a shared one mean little.

plain loop   nats-py as its manual shows it: publish, pull and ack one message a task, 200 at a time
bare chain   publish, store, deliver, store, deliver through two processes: the hops a task must make
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nats
from nats.js.api import RetentionPolicy, StorageType, StreamConfig

from echelon_infra.server import NatsServer
from echelon_ops.ports import any_free

HOP = Path(__file__).with_name("hop.py")
PAYLOAD = b"x" * 70


@contextlib.contextmanager
def bare_server() -> Iterator[str]:
    """A nats-server of its own; its address."""
    with tempfile.TemporaryDirectory(prefix="echelon-bench-") as folder:
        server = NatsServer(Path(folder), port=any_free("127.0.0.1"), user="bench", password="bench")
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


async def plain_loop(url: str, tasks: int = 8000, batch: int = 200) -> float:
    """Tasks a second."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    config = StreamConfig(
        name="plain", subjects=["plain.>"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE
    )
    await jetstream.add_stream(config)
    began = time.perf_counter()
    for _ in range(0, tasks, batch):
        await asyncio.gather(*[jetstream.publish("plain.a", PAYLOAD) for _ in range(batch)])
    pulls = await jetstream.pull_subscribe("plain.>", "c", stream="plain")
    done = 0
    while done < tasks:
        for message in await pulls.fetch(batch):
            await message.ack()
            done += 1
    took = time.perf_counter() - began
    await jetstream.delete_stream("plain")
    await connection.close()
    return tasks / took


async def bare_chain(url: str, rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds of each message from publish to the last delivery, open loop with exponential gaps."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    for name in ("one", "two"):
        await jetstream.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], storage=StorageType.FILE))
    hops = [_hop(url, "one", "two.x"), _hop(url, "two", "done")]
    sent: dict[bytes, float] = {}
    took: list[float] = []
    all_sent, everything = False, asyncio.Event()

    async def done(message: nats.aio.msg.Msg) -> None:
        took.append(time.perf_counter() - sent.pop(message.data))
        if all_sent and not sent:
            everything.set()

    try:
        for hop in hops:
            assert hop.stdout is not None
            await asyncio.to_thread(hop.stdout.readline)
        await connection.subscribe("done", cb=done)
        chance = random.Random(seed)
        due = time.perf_counter()
        for number in range(int(rate * seconds)):
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            key = b"%d" % number
            sent[key] = time.perf_counter()
            await connection.publish("one.x", key, reply="nobody")
            due += chance.expovariate(rate)
        all_sent = True
        if sent:
            await asyncio.wait_for(everything.wait(), 5)
    finally:
        for hop in hops:
            hop.kill()
            hop.wait()
        for name in ("one", "two"):
            await jetstream.delete_stream(name)
        await connection.close()
    return took


def _hop(url: str, stream: str, onward: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HOP), stream, onward]
    return subprocess.Popen(command, env={**os.environ, "HOP_URL": url}, stdout=subprocess.PIPE)
