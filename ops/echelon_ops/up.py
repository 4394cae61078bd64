"""A whole Echelon on one machine: an embedded nats-server, a master, regions, workers, a web server.

Started all at once, for imports are most of a start and connections wait for the server anyway; kept alive;
ended in the order in which work flows: workers first, who let running tasks end and give back the rest, then
the schedulers and the web, then the server. What is not finished goes on at the next start.

Only this process reacts to Ctrl-C: all others lead sessions of their own. `uv run` passes a copy of the
terminal's SIGINT on, so two within half a second are one; a later one ends everything at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from echelon_infra.process import BAD_INPUT, NO_SERVER, OK, STOPPED_AT_ONCE
from echelon_infra.server import ServerFailed
from echelon_infra.settings import Resolved, Settings, hand_down
from echelon_ops import ports
from echelon_ops.address import reachable, without_password
from echelon_ops.broker import Broker
from echelon_ops.figures import Figures, read_figures, status_line
from echelon_ops.folder import Folder, FolderError, Process, Run
from echelon_ops.screen import Screen
from echelon_ops.supervise import Child, Spec, Supervisor

DEMO: Final = "echelon_ops.demo.app"
REFUSED: Final = 3
ECHO_S: Final = 0.5
"""Signals closer together than this are one: `uv run` passes on what the terminal has sent to all."""
DRAIN_S: Final = 8.0
LAST_S: Final = 1.0
"""What schedulers and web may take to end: all they have is durable already."""
ATTEMPTS: Final = 5
QUIET_S: Final = 30.0
UNWATCHED_S: Final = 5.0


class Refused(Exception):
    """`up` cannot start; `code` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def app_of(given: str) -> str:
    """A file as an absolute path, a module as it is, nothing as the demo.

    Raises:
        Refused: the file does not exist.
    """
    if not given:
        return DEMO
    if not (given.endswith(".py") or os.sep in given):
        return given
    path = Path(given).resolve()
    if not path.is_file():
        raise Refused(f"--app: there is no file {path}.", BAD_INPUT)
    return str(path)


def sync_processes(asked: int, workers: int, cores: int) -> int:
    """Children for sync tasks of each worker: as asked, or the cores shared between all workers.

    >>> sync_processes(0, 2, 8), sync_processes(0, 4, 2), sync_processes(3, 2, 8)
    (4, 1, 3)
    """
    return asked or max(1, cores // max(1, workers))


def plan(resolved: Resolved, cores: int) -> Settings:
    """What all processes are told, but for addresses: nothing relative, nothing left to be found out."""
    settings = resolved.settings
    drain_s = settings.drain_timeout_s if "drain_timeout_s" in resolved.origins else DRAIN_S
    return msgspec.structs.replace(
        settings,
        app=app_of(settings.app),
        data=settings.data.resolve(),
        drain_timeout_s=drain_s,
        processes=sync_processes(settings.processes, settings.workers * len(settings.regions), cores),
    )


def specs(settings: Settings, folder: Folder, environ: Mapping[str, str]) -> list[Spec]:
    """Every process but the nats-server, in the order in which they are worth starting."""

    def spec(name: str, tier: str, told: Settings, fatal: frozenset[int] = frozenset()) -> Spec:
        command = (sys.executable, "-P", "-m", "echelon_ops.tier", tier, name)
        return Spec(name, command, {**environ, **hand_down(told)}, folder.log(name), fatal)

    made = [spec("master", "master", settings)]
    regions = {region: msgspec.structs.replace(settings, region=region) for region in settings.regions}
    made += [spec(f"regional-{region}", "regional", told) for region, told in regions.items()]
    made += [
        spec(f"worker-{region}-{n}", "worker", _named(told, f"{region}-{n}"), frozenset({BAD_INPUT}))
        for region, told in regions.items()
        for n in range(1, settings.workers + 1)
    ]
    return [*made, spec("web", "web", settings, frozenset({BAD_INPUT}))]


def _named(told: Settings, worker_id: str) -> Settings:
    """A worker keeps its name over restarts: people know it, and it takes its own lease back at once."""
    return msgspec.structs.replace(told, worker_id=worker_id)


class PortLost(Exception):
    """Another program was quicker to take a port; with another one it will go."""


class Up:
    """One run of `up`."""

    def __init__(self, resolved: Resolved, folder: Folder, screen: Screen) -> None:
        self._origins = resolved.origins
        self._settings = plan(resolved, os.cpu_count() or 1)
        self._folder, self._screen = folder, screen
        self._broker: Broker | None = None
        self._stop = asyncio.Event()
        self._stop_asked_at: float | None = None
        self._code = OK
        self._announced = True
        self._begun = time.monotonic()
        self._started_at = time.time()

    async def run(self) -> int:
        self._settle_addresses()
        self._supervisor = Supervisor(
            specs(self._settings, self._folder, os.environ),
            tell=self._screen.line,
            changed=self._announce,
            fatal=self._on_fatal,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        if self._broker is not None:
            self._broker.spawn()
        self._supervisor.start()
        self._screen.line(banner(self._settings, self._folder.path, self._broker is not None))
        jobs = [self._supervisor.watch(), self._show()]
        if self._broker is not None:
            jobs.append(self._broker.watch())
        background = [asyncio.create_task(job) for job in jobs]
        for task in background:
            task.add_done_callback(lambda _: self._stop.set())
        await self._stop.wait()
        for task in background:
            task.cancel()
        faults = [
            end for end in await asyncio.gather(*background, return_exceptions=True)
            if isinstance(end, Exception)
        ]  # fmt: skip
        if faults:
            self._code = NO_SERVER
        taken = self._taken_port()
        await self._end()
        if taken and self._code != OK:
            raise PortLost(f"Port {taken} was taken by another program meanwhile.")
        if faults:
            raise faults[0]
        return self._code

    def _taken_port(self) -> int:
        """After something did not start: the port that was free when it was chosen and no longer is, or 0.

        Not one that was asked for: that is told, not replaced.
        """
        if self._broker is not None and not self._broker.alive():
            if not ports.is_free("127.0.0.1", self._broker.port):
                return self._broker.port
        web = self._supervisor.children["web"]
        if "port" not in self._origins and not web.alive():
            if not ports.is_free(self._settings.host, self._settings.port):
                return self._settings.port
        return 0

    def _settle_addresses(self) -> None:
        settings, asked = self._settings, self._origins
        if "nats_url" not in asked:
            known = self._folder.server()
            first = known.port if known else 4222
            server = self._folder.make_server(ports.choose("127.0.0.1", first, asked=False, flag="--nats"))
            self._say_moved("nats-server", first, server.port)
            self._broker = Broker(self._folder, server, self._screen.line, self._announce)
            settings = msgspec.structs.replace(settings, nats_url=server.url())
        port = ports.choose(settings.host, settings.port, asked="port" in asked, flag="--port")
        if settings.port:
            self._say_moved("web", settings.port, port)
        url = f"http://{reachable(settings.host)}:{port}"
        self._settings = msgspec.structs.replace(settings, port=port, url=url)

    def _say_moved(self, what: str, wanted: int, got: int) -> None:
        if got != wanted:
            self._screen.line(f"Port {wanted} is taken: {what} uses {got}.")

    def _announce(self) -> None:
        children = self._supervisor.children.values()
        processes = {child.spec.name: Process(child.pid, str(child.spec.log)) for child in children}
        if self._broker is not None:
            processes["nats-server"] = Process(self._broker.pid, str(self._broker.log))
        settings = self._settings
        run = Run(
            pid=os.getpid(),
            started_at=self._started_at,
            nats_url=settings.nats_url,
            url=settings.url,
            data=str(self._folder.path),
            regions=list(settings.regions),
            processes=processes,
            version=version("echelon-server"),
            monitoring=self._broker.monitoring if self._broker is not None else "",
        )
        try:
            self._folder.announce(run)
            self._announced = True
        except OSError as error:  # a full disk must not end us: the cure for what it has frozen is here
            if self._announced:
                self._screen.line(f"{self._folder.path / 'run.json'} cannot be written: {error.strerror}.")
            self._announced = False

    def _on_signal(self) -> None:
        now = time.monotonic()
        if self._stop_asked_at is None:
            self._stop_asked_at = now
            self._stop.set()
        elif now - self._stop_asked_at > ECHO_S:
            self._supervisor.kill_all()
            if self._broker is not None:
                self._broker.kill()
            self._folder.withdraw()
            self._screen.clear()
            self._screen.line("Stopped at once. What was running runs again at the next start.")
            os._exit(STOPPED_AT_ONCE)

    def _on_fatal(self, child: Child, code: int) -> None:
        if self._code == OK and not self._taken_port():  # the others fail for the same reason
            self._screen.line(f"{child.spec.name} cannot start:\n{child.last_words()}")
        self._code = code
        self._stop.set()

    async def _show(self) -> None:
        """Say once that all is ready; then a status line or, where nobody watches, a line at times."""
        before: Figures | None = None
        said_at, said = -QUIET_S, 0
        ready = False
        pause_s = 1.0 if self._screen.is_terminal else UNWATCHED_S
        while True:
            await asyncio.sleep(pause_s if ready else 0.1)
            figures = await read_figures(self._settings.url)
            if figures is None:
                continue
            if not ready and figures.ready(len(self._settings.regions), self._settings.workers):
                ready = True
                self._screen.line(f"Ready after {time.monotonic() - self._begun:.1f} s.")
            text = status_line(figures, before)
            self._screen.status(text)
            if ready and not self._screen.is_terminal and figures.done != said:
                if time.monotonic() - said_at >= QUIET_S:
                    said_at, said = time.monotonic(), figures.done
                    self._screen.line(text)
            before = figures

    async def _end(self) -> None:
        self._screen.clear()
        names = list(self._supervisor.children)
        workers = [name for name in names if name.startswith("worker-")]
        others = [name for name in names if name not in workers]
        if self._code == OK:
            self._screen.line("Stopping: running tasks may end. Ctrl-C again stops at once.")
        drain_s = self._settings.drain_timeout_s if self._code == OK else 0.0
        killed = await self._supervisor.stop(workers, drain_s + 0.3)
        killed += await self._supervisor.stop(others, LAST_S)
        if self._broker is not None:
            self._broker.stop()
        self._folder.withdraw()
        if killed:
            self._screen.line(f"Did not end in time and were killed: {', '.join(killed)}.")
        if self._code == OK:
            self._screen.line("Stopped. What is not finished goes on at the next start.")


def banner(settings: Settings, data: Path, embedded: bool) -> str:
    """What runs where."""
    each = f"{settings.concurrency} async slots, {settings.processes} sync processes"
    serves = "the demo's tasks" if settings.app == DEMO else settings.app
    count = settings.workers
    rows: Sequence[tuple[str, str]] = (
        ("nats-server", without_password(settings.nats_url) + ("" if embedded else " (not ours)")),
        ("master", "admits tasks and places them"),
        ("regional", ", ".join(settings.regions)),
        ("worker", f"{count} in each region, {each}" if count != 1 else f"one in each region, {each}"),
        ("", f"serves {serves}"),
        ("web", settings.url),
        ("data", f"{data} (logs in logs/)"),
    )
    lines = [f"Echelon {version('echelon-server')}", ""]
    lines += [f"  {name:<12} {what}" for name, what in rows]
    lines += ["", f"  Dashboard    {settings.url}/ui/"]
    if settings.app == DEMO:
        lines.append("  Try          echelon demo census   (in another terminal, from this folder)")
    lines += ["  Stop         Ctrl-C", ""]
    return "\n".join(lines)


def _run(resolved: Resolved, folder: Folder, screen: Screen) -> int:
    for _ in range(ATTEMPTS):
        try:
            with asyncio.Runner() as runner:
                return runner.run(Up(resolved, folder, screen).run())
        except PortLost as lost:
            screen.line(f"{lost} Once more, with another.")
    raise ports.PortTaken(f"Ports were taken {ATTEMPTS} times. Give some of your own with --port and --nats.")


def main(resolved: Resolved) -> int:
    """Run until told to stop; the exit code. What is wrong with input, ports or folder is said on stderr."""
    try:
        folder = Folder(resolved.settings.data)
    except FolderError as error:
        print(f"echelon up: {error}", file=sys.stderr)
        return REFUSED
    try:
        return _run(resolved, folder, Screen())
    except (ports.PortTaken, FolderError) as error:
        print(f"echelon up: {error}", file=sys.stderr)
        return REFUSED
    except Refused as error:
        print(f"echelon up: {error}", file=sys.stderr)
        return error.code
    except ServerFailed as error:
        print(f"echelon up: {error}", file=sys.stderr)
        return NO_SERVER
    finally:
        folder.close()
