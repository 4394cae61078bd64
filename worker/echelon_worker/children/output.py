"""What a child prints: its end is kept for the case that it dies, and so much a second goes to our log."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from echelon_infra.telemetry import logs

log = logs.get("worker")

KEPT_BYTES: Final = 4096
LINES_A_SECOND: Final = 20
LINE_CHARS: Final = 1000
_READ_BYTES: Final = 64 * 1024


class Output:
    """Reads the pipe behind a child's two streams until everybody has closed it."""

    def __init__(self, fd: int, pid: int) -> None:
        self._fd = fd
        self._pid = pid
        self._end = b""
        self._line = b""
        self._second = 0
        self._lines = 0
        self._open = True
        asyncio.get_running_loop().add_reader(fd, self._read)

    @property
    def end(self) -> str:
        """The last that was printed."""
        return self._end.decode("utf-8", "replace").strip()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._end = (self._end + data)[-KEPT_BYTES:]
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-LINE_CHARS:]
        for line in lines:
            self._log(line)

    def _log(self, line: bytes) -> None:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            if self._lines > LINES_A_SECOND:
                log.info("printed more", child=self._pid, lines=self._lines - LINES_A_SECOND)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_A_SECOND and line.strip():
            log.info("printed", child=self._pid, text=line[:LINE_CHARS].decode("utf-8", "replace"))

    def rest(self) -> None:
        """Read what is there now; called when the child is dead."""
        while self._open:
            before = self._end
            self._read()
            if self._end == before:
                return

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
