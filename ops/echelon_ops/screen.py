"""What a person sees of a running `up`: lines that stay, and below them one status line that changes."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO


class Screen:
    """Lines go to `stream`; the status line only where that is a terminal.

    A terminal that has gone away is no reason to die: what cannot be shown is dropped.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self.is_terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._status = ""

    def line(self, text: str = "") -> None:
        if self._status:
            self._put(f"\r\x1b[K{text}\n{self._status}")
        else:
            self._put(text + "\n")

    def status(self, text: str) -> None:
        """Replace the status line; nothing where there is no terminal."""
        if self.is_terminal and text != self._status:
            width = shutil.get_terminal_size().columns - 1
            self._status = text[:width]
            self._put(f"\r\x1b[K{self._status}")

    def clear(self) -> None:
        if self._status:
            self._status = ""
            self._put("\r\x1b[K")

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._stream = open(os.devnull, "w")
