"""What a person sees: lines that stay, a status line where there is a terminal, and what it says."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys

import pytest

from echelon_ops.fetch import get
from echelon_ops.figures import Figures, read_figures, status_line
from echelon_ops.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_put_above_the_status_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    screen = Screen(stream)
    screen.status("1 task")
    screen.status("1 task")
    screen.line("master died")
    screen.clear()
    screen.line("done")
    assert stream.getvalue() == "\r\x1b[K1 task\r\x1b[Kmaster died\n1 task\r\x1b[Kdone\n"


def test_where_nobody_watches_there_is_no_status_line() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.status("1 task")
    screen.line("hello")
    assert stream.getvalue() == "hello\n"


def test_a_terminal_that_goes_away_is_no_reason_to_die() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    screen = Screen(Gone())
    screen.line("nobody")
    screen.line("still nobody")


def figures(**given: object) -> Figures:
    made = {"at": 1.0, "done": 0, "waiting": 0, "running": 0, "workers": {"east": 1}, **given}
    return Figures(**made)  # type: ignore[arg-type]


def test_rates_are_between_two_looks() -> None:
    assert "· 50/s ·" in status_line(figures(at=3.0, done=100), figures(at=1.0))
    assert "· 0/s ·" in status_line(figures(done=100), None)
    assert status_line(figures(workers={}), None).endswith("no worker")


def test_ready_means_every_region_with_its_workers() -> None:
    two = figures(workers={"east": 1, "west": 0})
    assert not two.ready(2, 1)
    assert two.ready(2, 0)
    assert not figures(workers={"east": 2}).ready(2, 0)


async def test_figures_come_from_the_web_node() -> None:
    totals = {"": 10, "pending": 3, "running": 2}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        body: object = {"items": [{"region": "east", "status": "up", "workers": 2, "more": 1}]}
        if line.startswith("/api/tasks"):
            body = {"items": [], "total": totals[line.partition("&status=")[2]]}
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\n" + json.dumps(body).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await read_figures(f"http://127.0.0.1:{port}")
    assert found is not None
    assert (found.done, found.waiting, found.running, found.workers) == (5, 3, 2, {"east": 2})


async def test_nobody_answers() -> None:
    assert await get("http://127.0.0.1:1/") is None
    assert await read_figures("http://127.0.0.1:1") is None


@pytest.mark.parametrize("module", ["echelon_ops.cli.tasks", "echelon_ops.cli.submit", "echelon_ops.up"])
def test_commands_start_without_servers_and_drawings(module: str) -> None:
    heavy = "{'nats', 'litestar', 'uvicorn', 'rich', 'structlog', 'pydantic', 'uvloop'}"
    code = f"import sys, {module}; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
