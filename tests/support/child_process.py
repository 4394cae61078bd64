"""A child as a worker starts it, driven over its socket by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

from echelon.wire.child import (
    FRAME,
    OK,
    STATE,
    Bundle,
    Executing,
    Hello,
    Kind,
    Ran,
    Run,
    Started,
    encode_bundle,
    executing,
    hello,
    join,
    outcomes,
    started,
)
from echelon.wire.codec import pack


class ChildProcess:
    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, page: mmap) -> None:
        self.process = process
        self.sock = sock
        self.page = page
        self.starts: list[Started] = []
        self.frames = 0
        self._buffer = bytearray()
        self._token = 0

    def read(self, timeout_s: float = 10.0) -> tuple[int, int, int, bytes]:
        """(kind, token, count, body) of the next frame. EOFError when the child is gone."""
        self.sock.settimeout(timeout_s)
        while True:
            if len(self._buffer) >= FRAME.size:
                size, kind, token, count = FRAME.unpack_from(self._buffer)
                if len(self._buffer) >= FRAME.size + size:
                    body = bytes(self._buffer[FRAME.size : FRAME.size + size])
                    del self._buffer[: FRAME.size + size]
                    self.frames += 1
                    return kind, token, count, body
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError
            self._buffer += data

    def hello(self) -> Hello:
        kind, _, _, body = self.read()
        assert kind == Kind.HELLO, body.decode()
        return hello(body)

    def send(self, kind: int, body: bytes = b"", token: int = 0) -> None:
        self.sock.settimeout(10)
        self.sock.sendall(FRAME.pack(len(body), kind, token, 0) + body)

    def give(self, runs: list[Run]) -> int:
        self._token += 1
        self.send(Kind.BUNDLE, encode_bundle(Bundle(False, runs)), self._token)
        return self._token

    def stop(self, ref: int, run: int) -> None:
        self.send(Kind.STOP, pack((ref, run)))

    def some(self) -> list[Ran]:
        """The outcomes of the next frame."""
        _, _, count, body = self.read()
        return outcomes(join("w", [(count, body)])).ran

    def outcomes(self, bundles: int = 1, timeout_s: float = 10.0) -> list[Ran]:
        """What comes until so many bundles are done, or the child is gone."""
        ran: list[Ran] = []
        while bundles:
            try:
                kind, _, count, body = self.read(timeout_s)
            except (EOFError, ConnectionResetError):
                break
            if kind == Kind.STARTED:
                self.starts += started(body)
                continue
            ran += outcomes(join("w", [(count, body)])).ran
            bundles -= kind == Kind.DONE
        return ran

    def run(self, *runs: Run) -> list[Ran]:
        self.give(list(runs))
        return self.outcomes()

    def one(self, task_type: str, payload: bytes = b"", timeout_s: float = 300.0) -> Ran:
        [ran] = self.run(Run(1024, 1025, task_type, payload, timeout_s, 1))
        return ran

    def result(self, task_type: str, payload: bytes = b"") -> object:
        ran = self.one(task_type, payload)
        assert ran.status == OK, ran.error
        return json.loads(ran.result)

    def look(self) -> Executing:
        return executing(self.page)

    def busy(self, timeout_s: float = 10.0) -> Executing:
        """Wait until user code executes."""
        until = time.monotonic() + timeout_s
        while not (seen := self.look()).busy:
            assert time.monotonic() < until, "no user code executes"
            time.sleep(0.001)
        return seen


@contextmanager
def child(
    app: str | Path, lane: str = "async", *, slots: int = 100, cwd: Path | None = None
) -> Iterator[ChildProcess]:
    ours, theirs = socket.socketpair()
    page_fd = os.memfd_create("page")
    os.ftruncate(page_fd, STATE.size)
    start = {"socket": theirs.fileno(), "state": page_fd, "lane": lane, "slots": slots, "app": str(app)}
    process = subprocess.Popen(
        [sys.executable, "-m", "echelon.child", json.dumps(start)],
        pass_fds=[theirs.fileno(), page_fd],
        stdin=subprocess.DEVNULL,
        cwd=cwd,
    )
    theirs.close()
    page = mmap(page_fd, STATE.size)
    os.close(page_fd)
    try:
        yield ChildProcess(process, ours, page)
    finally:
        ours.close()
        if process.poll() is None:
            process.kill()
        process.wait()
        page.close()
