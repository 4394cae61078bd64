"""The page shared with the supervisor: which run has the thread at this moment (`wire.child.STATE`)."""

from __future__ import annotations

import os
import struct
from mmap import mmap

from echelon.wire.child import STATE, Run

_write = STATE.pack_into
_BEAT = struct.Struct("<Q")


class Page:
    """Writes without a system call. Odd beats: user code executes."""

    __slots__ = ("_beat", "_forked", "_map")

    def __init__(self, fd: int) -> None:
        self._map = mmap(fd, STATE.size)
        self._beat = 0
        self._forked = False

    def begin(self, run: Run, started: float) -> None:
        """`started`: in monotonic time. Also from one run to the next without `rest` between."""
        if self._forked:
            os._exit(0)
        self._beat = beat = self._beat + 2 | 1
        _write(self._map, 0, beat, run.ref, run.run, started, run.timeout_s)

    def rest(self) -> None:
        if self._forked:
            os._exit(0)
        self._beat += self._beat & 1
        _BEAT.pack_into(self._map, 0, self._beat)

    def forsake(self) -> None:
        """This process was forked off by a handler: it ends when it comes back to us, and reports nothing."""
        self._forked = True
