"""The data folder of an installation on one machine: who uses it, which format it has, where things answer.

    lock         held by the running supervisor, so a second one is refused
    format       version of what lies here; a newer one is refused, never guessed at
    nats.json    port, user and password of the embedded server, made once so that clients find it again
    run.json     addresses and process ids while it runs
    jetstream/   the embedded server's; readmodel/ the web node's; logs/ one file a process

Everything is for this user's eyes only.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

FORMAT: Final = 1
NAME: Final = ".echelon"


class FolderError(Exception):
    """The folder cannot be used; the message says why and what helps."""


class Server(msgspec.Struct, frozen=True):
    """The embedded nats-server as it was made."""

    port: int
    user: str
    password: str

    def url(self) -> str:
        return f"nats://{self.user}:{self.password}@127.0.0.1:{self.port}"


class Process(msgspec.Struct, frozen=True):
    pid: int
    log: str


class Run(msgspec.Struct, frozen=True):
    """What runs now. `url` is the web node's, `nats_url` carries user and password."""

    pid: int
    started_at: float
    nats_url: str
    url: str
    data: str
    regions: list[str]
    processes: dict[str, Process]
    version: str = ""
    monitoring: str = ""  # of the embedded server


class Folder:
    """A data folder that this process has locked."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            FolderError: it is in use, of a newer format, or cannot be written.
        """
        self.path = path.resolve()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        if not _locked(self._lock):
            os.close(self._lock)
            raise FolderError(_in_use(self.path))
        try:
            self.withdraw()  # one that was killed left its own
            self._take_format()
            (self.path / "logs").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            os.close(self._lock)
            raise self._unusable(error) from error
        except FolderError:
            os.close(self._lock)
            raise

    def _take_format(self) -> None:
        found = self._format()
        if found > FORMAT:
            raise FolderError(
                f"{self.path} has format {found}; this version reads up to {FORMAT}. "
                "Use the newer Echelon that made it, or another folder with --data."
            )
        if found < FORMAT:
            write_private(self.path / "format", f"{FORMAT}\n".encode())

    def _unusable(self, error: OSError) -> FolderError:
        return FolderError(f"{self.path} cannot be used: {error.strerror}.")

    def _format(self) -> int:
        try:
            return int((self.path / "format").read_text())
        except FileNotFoundError:
            return 0
        except ValueError:
            raise FolderError(f"{self.path / 'format'} holds no number; was it edited?") from None

    def close(self) -> None:
        os.close(self._lock)

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def server(self) -> Server | None:
        """How the embedded server was made, or None if it never was."""
        try:
            return msgspec.json.decode((self.path / "nats.json").read_bytes(), type=Server)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def make_server(self, port: int) -> Server:
        """Keep `port`, and the password of before if there was one.

        Raises:
            FolderError: it cannot be written.
        """
        known = self.server()
        password = known.password if known else secrets.token_urlsafe(24)
        made = Server(port, "echelon", password)
        if made != known:
            try:
                write_private(self.path / "nats.json", msgspec.json.encode(made))
            except OSError as error:
                raise self._unusable(error) from error
        return made

    def announce(self, run: Run) -> None:
        write_private(self.path / "run.json", msgspec.json.format(msgspec.json.encode(run)))

    def withdraw(self) -> None:
        (self.path / "run.json").unlink(missing_ok=True)

    def empty(self) -> None:
        """Delete everything but the lock that is held."""
        for entry in self.path.iterdir():
            if entry.name == "lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _locked(handle: int, patience_s: float = 0.3) -> bool:
    """Whoever asks what runs here holds the lock for a moment, so one refusal is no answer."""
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        else:
            return True


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step, readable by its owner alone."""
    beside = path.with_name(path.name + ".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    beside.replace(path)


def running(path: Path) -> Run | None:
    """What runs in this data folder, or None: a free lock means that nothing does, whatever is written."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read_run(path)
    finally:
        os.close(lock)


def nearest(start: Path) -> Run | None:
    """What runs in the nearest `.echelon` from `start` upwards."""
    for folder in _upwards(start.resolve()):
        if (run := running(folder / NAME)) is not None:
            return run
    return None


def _upwards(start: Path) -> Iterator[Path]:
    yield start
    yield from start.parents


def _read_run(path: Path) -> Run | None:
    try:
        return msgspec.json.decode((path / "run.json").read_bytes(), type=Run)
    except (OSError, msgspec.DecodeError):
        return None


def _in_use(path: Path) -> str:
    run = _read_run(path)
    who = f" (process {run.pid}, {run.url})" if run else ""
    return f"Echelon runs in {path} already{who}. Stop it, or use another folder with --data."
