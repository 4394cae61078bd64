"""What every long-running process of Echelon does alike: its loop, its signals, its end.

Only the supervisor reacts to Ctrl-C. A terminal signals its whole foreground group, so everything else runs
in a session of its own; and nothing may outlive a supervisor that was killed, so each process asks the kernel
to be told.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

PARENT: Final = "ECHELON_PARENT"
"""Process id of the supervisor, in the environment of what it starts."""

OK: Final = 0
BAD_INPUT: Final = 2
NO_SERVER: Final = 5
STOPPED_AT_ONCE: Final = 6
DEPOSED: Final = 70

SWITCH_S: Final = 0.0002
"""How long a thread that writes aside may keep the loop waiting. Python's 5 ms were most of the time between
submission and start: p99 16 ms at 1,000 tasks a second, 5 ms with this."""

_PR_SET_PDEATHSIG: Final = 1


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a tier on uvloop; what was imported so far is never looked at by the garbage collector again."""
    import asyncio

    import uvloop

    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT: drain, then return. A second one ends the process at once, with code 6."""
    import asyncio

    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(STOPPED_AT_ONCE)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def new_group() -> None:
    """Leave the terminal's process group, so that its Ctrl-C goes to the supervisor alone."""
    try:
        os.setsid()
    except PermissionError:
        pass  # leads a group already


def die_with_parent(environ: Mapping[str, str] | None = None) -> None:
    """End this process, at once, when the supervisor named in the environment is gone, however it went.

    Called first thing: a parent that died before this call is noticed by its id having changed.
    Does nothing in a process that no supervisor started.
    """
    named = (os.environ if environ is None else environ).get(PARENT, "")
    if not named.isdigit():
        return
    parent = int(named)
    if sys.platform == "linux":
        kill_when_parent_ends(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(STOPPED_AT_ONCE)
    else:
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def kill_when_parent_ends(number: int) -> None:
    """Linux: the kernel sends `number` when the thread that started this process ends."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _watch(parent: int, every_s: float = 0.5) -> None:
    """Where the kernel does not tell: look."""
    while os.getppid() == parent:
        time.sleep(every_s)
    os._exit(STOPPED_AT_ONCE)
