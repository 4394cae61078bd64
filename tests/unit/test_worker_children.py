"""What the worker's dealings with children need no child for: frames, environment, who lives, who grew."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time

import psutil

from echelon.wire.child import FRAME
from echelon_worker.children.pipe import Pipe
from echelon_worker.children.recycle import Size, grown
from echelon_worker.children.spawn import without_ours
from echelon_worker.lease import _lives
from echelon_worker.run import secrets_of
from support.eventually import eventually

MiB = 1 << 20


def test_frames_are_found_however_the_bytes_are_cut() -> None:
    chance = random.Random(5)
    sent = [
        (kind, token, kind * 2, os.urandom(chance.choice((0, 1, 16, 5000))))
        for kind, token in zip(range(40), range(40), strict=True)
    ]
    data = b"".join(FRAME.pack(len(body), kind, token, count) + body for kind, token, count, body in sent)
    for most in (1, 3, 17, 100, 4096, len(data)):
        got: list[tuple[int, int, int, bytes]] = []
        pipe = Pipe(lambda *frame, got=got: got.append(frame), lambda: None)  # type: ignore[misc]
        at = 0
        while at < len(data):
            size = chance.randint(1, most)
            pipe.data_received(data[at : at + size])
            at += size
        assert got == sent


def test_user_code_gets_the_environment_without_what_is_ours() -> None:
    secrets = secrets_of("nats://app:s3cret@127.0.0.1:4222,nats://127.0.0.1:4223")
    environ = {
        "PATH": "/bin",
        "DATABASE_URL": "postgres://me@db",
        "ECHELON_RESOLVED": "{}",
        "NATS_URL": "nats://x",
        "COPY": "nats://app:s3cret@127.0.0.1:4222,nats://127.0.0.1:4223",
        "ODD": "has s3cret in it",
    }
    assert without_ours(environ, secrets) == {"PATH": "/bin", "DATABASE_URL": "postgres://me@db"}
    assert without_ours({"A": "1"}, secrets_of("127.0.0.1:4222")) == {"A": "1"}


async def test_a_process_is_alive_while_it_is_the_one_that_started_then() -> None:
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
        assert _lives(process.pid, time.time())
        assert not _lives(
            process.pid, psutil.Process(process.pid).create_time() - 10
        )  # the id was used again
        process.kill()
        await eventually(lambda: not _lives(process.pid, time.time()))  # not reaped yet
    finally:
        process.kill()
        process.wait()
    assert not _lives(process.pid, time.time())
    assert not _lives(os.getpid(), time.time())


def test_who_is_large_from_the_start_is_not_recycled() -> None:
    assert grown({1: Size(3000 * MiB, 3500 * MiB), 2: Size(50 * MiB, 200 * MiB)}) is None
    assert grown({1: Size(3000 * MiB, 3500 * MiB), 2: Size(50 * MiB, 300 * MiB)}) == 2
    assert grown({}) is None
