"""Keeps processes alive: started together, restarted with backoff, ended in order, none left behind.

The intuition: a death is ordinary and answered at once; deaths in a row, each soon after a start, are a
crash loop, answered ever more slowly and shown to a person with the last lines of the log. A process that
lived for a while has proved itself, and its next death is an ordinary one again.

Each process leads a session of its own, so that Ctrl-C reaches the supervisor alone, and asks the kernel to
be killed with it (`echelon_infra.process.die_with_parent`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from echelon_infra.process import DEPOSED, PARENT

PROVED_S: Final = 10.0
"""A process that lived this long has proved itself."""
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
LOUD_AFTER: Final = 3
LOG_BYTES: Final = 32 * 1024 * 1024


class Spec(msgspec.Struct, frozen=True):
    """A process to keep alive."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    log: Path
    fatal: frozenset[int] = frozenset()  # exit codes after which a restart cannot help


class Answer(msgspec.Struct, frozen=True):
    """What a death is answered with."""

    delay_s: float
    in_a_row: int
    loud: bool  # a person should see the log


def answer(lived_s: float, in_a_row: int, code: int) -> Answer:
    """`in_a_row`: quick deaths before this one. Being deposed is no failure: another leads, we stand by.

    >>> [answer(0.2, n, 1).delay_s for n in range(9)]
    [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    >>> answer(60.0, 8, 1)
    Answer(delay_s=0.1, in_a_row=0, loud=False)
    """
    if lived_s >= PROVED_S or code == DEPOSED:
        return Answer(FIRST_DELAY_S, 0, False)
    delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(in_a_row, 16))
    deaths = in_a_row + 1
    return Answer(delay_s, deaths, deaths == LOUD_AFTER or (deaths > LOUD_AFTER and deaths % 10 == 0))


def how(code: int) -> str:
    """
    >>> how(-9), how(1)
    ('was killed by SIGKILL', 'ended with code 1')
    """
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with code {code}"


class Child:
    """One process and its history."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.in_a_row = 0
        self.restart_at: float | None = None
        self.wanted = True
        self.deaths = 0
        self.log_from = 0  # where in its log the present process begins

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def last_words(self) -> str:
        return tail(self.spec.log, since=self.log_from)

    def start(self) -> None:
        """From the main thread: the kernel ties a child's life to the thread that made it."""
        self.restart_at = None
        self.started_at = time.monotonic()
        with open(self.spec.log, "ab") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                self.spec.command,
                env={**self.spec.environ, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """To the process alone; it sees to its own."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """With everything that stayed in its group."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.poll()


class Supervisor:
    """Runs in the main thread's event loop. `tell` shows a line to a person, `changed` is called after a
    start or a death, `fatal` when an exit code says that a restart cannot help."""

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        tell: Callable[[str], None],
        changed: Callable[[], None],
        fatal: Callable[[Child, int], None],
    ) -> None:
        self.children = {spec.name: Child(spec) for spec in specs}
        self._tell, self._changed, self._fatal = tell, changed, fatal
        self._woken = asyncio.Event()

    def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._woken.set)
        for child in self.children.values():
            shorten(child.spec.log)
            child.start()
        self._changed()

    async def watch(self) -> None:
        """Restart what dies. Runs until cancelled."""
        while True:
            self._look(time.monotonic())
            due = [child.restart_at for child in self.children.values() if child.restart_at is not None]
            pause = max(0.0, min(due) - time.monotonic()) if due else 1.0
            try:
                async with asyncio.timeout(min(pause, 1.0)):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    def _look(self, now: float) -> None:
        changed = False
        for child in self.children.values():
            if not child.wanted:
                continue
            if child.restart_at is not None:
                if child.restart_at <= now:
                    child.start()
                    changed = True
            elif child.process is not None and (code := child.process.poll()) is not None:
                self._on_death(child, code, now)
                changed = True
        if changed:
            self._changed()

    def _on_death(self, child: Child, code: int, now: float) -> None:
        child.kill()  # what it left in its group
        child.deaths += 1
        if code in child.spec.fatal and child.deaths == 1:
            child.wanted = False
            self._fatal(child, code)
            return
        said = answer(now - child.started_at, child.in_a_row, code)
        child.in_a_row = said.in_a_row
        child.restart_at = now + said.delay_s
        if said.loud:
            self._tell(
                f"{child.spec.name} keeps dying ({child.in_a_row} times in a row). "
                f"Its last lines, from {child.spec.log}:\n" + child.last_words()
            )
        elif child.in_a_row < LOUD_AFTER and code != DEPOSED:
            self._tell(f"{child.spec.name} {how(code)}; it is started again.")

    async def stop(self, names: Sequence[str], grace_s: float) -> list[str]:
        """SIGTERM to these together, SIGKILL after `grace_s`; the names of those that had to be killed.

        To be called when `watch` has ended.
        """
        ending = [self.children[name] for name in names]
        for child in ending:
            child.wanted = False
            child.restart_at = None
            child.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                while any(child.alive() for child in ending):
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            pass
        killed = [child.spec.name for child in ending if child.alive()]
        for child in ending:
            child.kill()
        for child in ending:
            if child.process is not None:
                child.process.wait()
        return killed

    def kill_all(self) -> None:
        for child in self.children.values():
            child.wanted = False
            child.kill()


def shorten(log: Path) -> None:
    """Before a start, put a log that has grown long aside; one older one is kept."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))


def tail(log: Path, lines: int = 20, *, since: int = 0) -> str:
    """The last lines of a log, from byte `since` on, as a person reads them: JSON taken apart, tracebacks
    unfolded and without the import system's own frames."""
    try:
        with open(log, "rb") as file:
            file.seek(max(since, log.stat().st_size - 64 * 1024))
            found = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "    (no log)"
    shown = [part for line in found for part in readable(line).splitlines() if "<frozen " not in part]
    return "\n".join("    " + line for line in shown[-lines:] or ["(it wrote nothing)"])


def readable(line: str) -> str:
    """
    >>> readable('{"at":"2026-11-21T12:09:13.705Z","level":"error","tier":"web","event":"no port","port":80}')
    '12:09:13 error web: no port port=80'
    """
    try:
        event = json.loads(line)
        at, level, tier, said = (event.pop(key) for key in ("at", "level", "tier", "event"))
    except (ValueError, KeyError, AttributeError, TypeError):
        return line
    trace = event.pop("exception", "")
    rest = "".join(f" {key}={value}" for key, value in event.items())
    return f"{at[11:19]} {level} {tier}: {said}{rest}" + (f"\n{trace}" if trace else "")
