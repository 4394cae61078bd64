"""Starts a child: `python -m echelon.child`, in a session of its own, knowing nothing of the broker.

User code gets the environment of this process but for what is Echelon's own: names that begin with ECHELON_
or NATS_, and whatever holds the broker's address or password. A child dies with us, however we go.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from echelon.wire.child import STATE, Start

_PR_SET_PDEATHSIG: Final = 1
_OURS: Final = ("ECHELON_", "NATS_")
_SOCKET_BYTES: Final = 1 << 20

_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class Spawned(NamedTuple):
    process: subprocess.Popen[bytes]
    socket: socket.socket  # our end; not blocking
    page: mmap.mmap
    output: int  # file descriptor: what it prints, both streams; not blocking


def spawn(app: str, lane: str, slots: int, environ: Mapping[str, str]) -> Spawned:
    """Raises OSError when no process can be started."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    output, printing = os.pipe()
    os.set_blocking(output, False)
    shared = _shared_file()
    with theirs:
        page = mmap.mmap(shared, STATE.size)
        start = Start(theirs.fileno(), shared, lane, slots, app)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "echelon.child", msgspec.json.encode(start).decode()],
                stdin=subprocess.DEVNULL,
                stdout=printing,
                stderr=printing,
                pass_fds=(theirs.fileno(), shared),
                env=dict(environ),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError:
            ours.close()
            page.close()
            os.close(output)
            raise
        finally:
            os.close(printing)
            os.close(shared)
    return Spawned(process, ours, page, output)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and everything that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was faster


def without_ours(environ: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """What user code may see.

    >>> without_ours({"HOME": "/root", "ECHELON_X": "1", "URL": "nats://u:pw@h"}, ["pw"])
    {'HOME': '/root'}
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OURS) and not any(secret and secret in value for secret in secrets)
    }


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _shared_file() -> int:
    """A file descriptor of memory that a child inherits."""
    if sys.platform == "linux":
        shared = os.memfd_create("echelon-child")
    else:
        with tempfile.TemporaryFile() as file:
            shared = os.dup(file.fileno())
    os.ftruncate(shared, STATE.size)
    return shared
