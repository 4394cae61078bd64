"""Outcomes of the sync lane: a bundle's leave together, but none waits for a neighbour that takes long.

The main thread may be inside a handler for minutes, so another thread sends what was held back for HOLD_S.
It is started with the first bundle of several runs, and sleeps while nothing is held.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Final

from echelon.child.frames import Sheaf
from echelon.wire.child import Error, Run

HOLD_S: Final = 0.02


class Outbox:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._dirty: dict[Sheaf, None] = {}
        self._held = threading.Semaphore(0)
        self._watched = False
        self._watcher: threading.Thread | None = None

    def add(
        self,
        sheaf: Sheaf,
        run: Run,
        status: int,
        text: bytes,
        began: float,
        ended: float,
        told: Error | None = None,
    ) -> None:
        """With the last of its bundle, everything is sent."""
        with self._lock:
            sheaf.add(run, status, text, began, ended, told)
            self._dirty[sheaf] = None
        if not sheaf.left:
            self.flush()
        elif not self._watched:
            self._watch()

    def flush(self) -> None:
        if not self._dirty:
            return
        with self._lock:
            sent = b"".join([sheaf.take() for sheaf in self._dirty])
            self._dirty.clear()
            if sent:
                self._sock.sendall(sent)

    def _watch(self) -> None:
        self._watched = True
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._send_what_is_held, name="echelon", daemon=True)
            self._watcher.start()
        self._held.release()

    def _send_what_is_held(self) -> None:
        while True:
            self._held.acquire()
            while self._watched:
                time.sleep(HOLD_S)
                try:
                    self.flush()
                except OSError:
                    os._exit(0)  # the supervisor is gone
                self._watched = False
                self._watched = bool(self._dirty)
