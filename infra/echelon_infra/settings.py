"""Every setting: default, meaning, unit, range; and where its value came from.

    defaults < echelon.toml < .env < environment < flags

Sources are compared first, names second: within one source `ECHELON_X` beats a founding alias. What is not
known is an error that names the nearest known key, and every error names the source where the value stood,
because a silent typo in a configuration is found at three in the morning.

`up` resolves once and hands the result to its processes as one JSON variable (`HANDED_DOWN`): imports are
most of a start, and eight processes need not look at the same files. That is also why this is msgspec and not
pydantic-settings, which costs 350 ms a process and does not see unknown variables.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from echelon.wire.names import is_token
from echelon_infra.process import PARENT

FILE: Final = "echelon.toml"
HANDED_DOWN: Final = "ECHELON_RESOLVED"
"""Resolved settings as JSON, set by a supervisor for its processes; beats every other source."""
_OURS: Final = (HANDED_DOWN, PARENT)

ALIASES: Final[Mapping[str, str]] = {
    "API_HOST": "host",
    "API_PORT": "port",
    "NATS_URL": "nats_url",
    "MAX_WORKERS": "concurrency",
    "TASK_TIMEOUT": "task_timeout",
    "HEARTBEAT_INTERVAL": "heartbeat_interval",
    "LOG_LEVEL": "log_level",
}
NOT_NEEDED: Final[Mapping[str, str]] = {
    "DATABASE_URL": "tasks and their history are kept in NATS JetStream and a read model beside it",
    "REDIS_URL": "queues, locks and leases are NATS JetStream's",
    "RABBITMQ_URL": "the message broker is NATS JetStream",
}
NOT_YET: Final[Mapping[str, str]] = {"METRICS_ENABLED": "a later version serves metrics"}
_COMPASS: Final = ("east", "west", "north", "south")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(|k|ki|m|mi|g|gi|t|ti)b?", re.IGNORECASE)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes of one Echelon are told. Keys are the fields' names without a trailing `_s`."""

    nats_url: Annotated[str, Meta(description="The nats-server; may carry user:password.")] = (
        "nats://127.0.0.1:4222"
    )
    url: Annotated[str, Meta(description="Where a web node answers, for the command line.")] = ""
    data: Annotated[Path, Meta(description="Folder of everything that is kept.")] = Path(".echelon")
    host: Annotated[str, Meta(description="Address the web server listens on.", min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(description="Its port; 0 is any.", ge=0, le=65535)] = 8000
    insecure: Annotated[bool, Meta(description="Listen beyond this machine without keys.")] = False
    regions: Annotated[tuple[str, ...], Meta(description="Regions that `up` starts.", min_length=1)] = (
        "east",
        "west",
    )
    workers: Annotated[int, Meta(description="Workers that `up` starts in each region.", ge=0, le=256)] = 1
    region: Annotated[str, Meta(description="The region it belongs to.")] = "east"
    pool: Annotated[str, Meta(description="The pool it belongs to.")] = "default"
    worker_id: Annotated[str, Meta(description="The worker's name.", max_length=64)] = ""
    app: Annotated[str, Meta(description="File or module with your @task functions.")] = ""
    processes: Annotated[int, Meta(description="Children for sync tasks, per worker.", ge=0, le=1024)] = 0
    concurrency: Annotated[int, Meta(description="Slots for async tasks, per worker.", ge=0, le=100_000)] = (
        100
    )
    drain_timeout_s: Annotated[
        float,
        Meta(
            description="How long running tasks may take to end.",
            ge=0,
            le=86400,
            extra={"unit": "s"},
        ),
    ] = 30.0
    heartbeat_interval_s: Annotated[
        float,
        Meta(
            description="How often workers renew their lease of three times that.",
            ge=0.1,
            le=600,
            extra={"unit": "s"},
        ),
    ] = 2.0
    task_timeout_s: Annotated[
        float,
        Meta(
            description="Timeout of a task that gives none.",
            gt=0,
            le=7 * 86400,
            extra={"unit": "s"},
        ),
    ] = 300.0
    region_grace_s: Annotated[
        float,
        Meta(
            description="How long a region may be gone before its tasks go to another.",
            ge=5,
            le=86400,
            extra={"unit": "s"},
        ),
    ] = 30.0
    backlog_tasks: Annotated[
        int, Meta(description="Tasks that may wait before submissions are refused.", ge=1)
    ] = 1_000_000
    backlog_bytes: Annotated[
        int,
        Meta(description="The same for their payloads.", ge=1, extra={"unit": "bytes"}),
    ] = 2 * 1024**3
    payload_cache_bytes: Annotated[
        int,
        Meta(description="Payloads that the master keeps in memory.", ge=0, extra={"unit": "bytes"}),
    ] = 256 * 1024**2
    replicas: Annotated[int, Meta(description="Copies of each stream: 1, 3 or 5.", ge=1, le=5)] = 1
    log_level: Annotated[
        str,
        Meta(
            description="debug, info, warning, error or critical.",
            pattern="^(debug|info|warning|error|critical)$",
        ),
    ] = "info"
    log_format: Annotated[str, Meta(description="json or text.", pattern="^(json|text)$")] = "json"


class Setting(msgspec.Struct, frozen=True):
    """One row of the table of settings."""

    key: str
    field: str
    type: Any
    default: object
    description: str
    unit: str


class Problem(msgspec.Struct, frozen=True):
    source: str  # "echelon.toml", ".env", "environment", "flag", "default"
    name: str  # as it stood there
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.name}: {self.message}"


class BadSettings(Exception):
    """The configuration cannot be used. `problems` names each value, its source and the mend."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Resolved(msgspec.Struct, frozen=True):
    settings: Settings
    origins: dict[str, str]  # field -> source, for those that are not defaults
    notes: list[str]  # what a person should be told once


def _table() -> dict[str, Setting]:
    rows: dict[str, Setting] = {}
    for spec in msgspec.structs.fields(Settings):
        (meta,) = spec.type.__metadata__
        key = spec.name.removesuffix("_s") if isinstance(spec.default, float) else spec.name
        rows[key] = Setting(
            key=key,
            field=spec.name,
            type=spec.type,
            default=spec.default,
            description=meta.description or "",
            unit=(meta.extra or {}).get("unit", ""),
        )
    return rows


TABLE: Final[Mapping[str, Setting]] = _table()


def resolve(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Resolved:
    """Settings from all sources. `flags`: those that were given, by key; `folder`: where the files are.

    Raises:
        BadSettings: with every problem of every source.
    """
    environ = os.environ if environ is None else environ
    folder = Path() if folder is None else folder
    problems: list[Problem] = []
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for source, given in (
        (FILE, _from_file(folder / FILE, problems)),
        (".env", _from_variables(_dotenv(folder / ".env"), ".env", problems)),
        ("environment", _from_variables(environ, "environment", problems)),
        ("flag", {key: (_flag(key), value) for key, value in (flags or {}).items()}),
    ):
        for key, (name, raw) in given.items():
            setting = TABLE[key]
            try:
                values[setting.field] = _convert(setting, raw)
            except (msgspec.ValidationError, ValueError) as error:
                problems.append(Problem(source, name, _message(setting, raw, error)))
            else:
                origins[setting.field] = source
    if problems:
        raise BadSettings(problems)
    return Resolved(Settings(**values), origins, _notes(environ))  # type: ignore[arg-type]


def hand_down(settings: Settings) -> dict[str, str]:
    """The environment variable that makes a child use exactly these settings."""
    text = msgspec.json.encode(settings, enc_hook=str).decode()
    return {HANDED_DOWN: text}


def handed_down(environ: Mapping[str, str] | None = None) -> Settings | None:
    """The settings that a supervisor resolved, or None if this process has none."""
    text = (os.environ if environ is None else environ).get(HANDED_DOWN)
    if not text:
        return None
    return msgspec.json.decode(text, type=Settings, dec_hook=_hook)


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean …?' or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]}?" if found else ""


def _from_file(path: Path, problems: list[Problem]) -> dict[str, tuple[str, object]]:
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        problems.append(Problem(FILE, str(path), str(error)))
        return {}
    given: dict[str, tuple[str, object]] = {}
    for key, value in raw.items():
        if key in TABLE:
            given[key] = (key, value)
        else:
            problems.append(Problem(FILE, key, f"there is no such setting.{nearest(key, TABLE)}"))
    return given


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values  # 30 ms, and few have the file

    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _from_variables(
    variables: Mapping[str, str], source: str, problems: list[Problem]
) -> dict[str, tuple[str, object]]:
    """Empty variables count as unset: compose files write `X=${X:-}`."""
    given: dict[str, tuple[str, object]] = {}
    if source == ".env" and variables.get("DEBUG", "").lower() in ("1", "true", "yes", "on"):
        given["log_level"] = ("DEBUG", "debug")
    for alias, key in ALIASES.items():
        if variables.get(alias):
            given[key] = (alias, variables[alias])
    known = {f"ECHELON_{key.upper()}": key for key in TABLE}
    for name, value in variables.items():
        if not name.startswith("ECHELON_") or name in _OURS or not value:
            continue
        if name in known:
            given[known[name]] = (name, value)
        else:
            problems.append(Problem(source, name, f"there is no such setting.{nearest(name, known)}"))
    return given


def _notes(environ: Mapping[str, str]) -> list[str]:
    not_needed = [
        f"{name} is set and not used: {why}. Set NATS_URL to use a server of your own."
        for name, why in NOT_NEEDED.items()
        if environ.get(name)
    ]
    return not_needed + [f"{name} is set: {why}." for name, why in NOT_YET.items() if environ.get(name)]


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _hook(wanted: type, value: object) -> object:
    if wanted is Path and isinstance(value, str | os.PathLike):
        return Path(value)
    raise NotImplementedError(wanted)


def _convert(setting: Setting, raw: object) -> object:
    if setting.field == "regions":
        raw = _regions(raw)
    elif setting.unit == "bytes" and isinstance(raw, str):
        raw = parse_size(raw)
    elif setting.field in ("log_level", "log_format") and isinstance(raw, str):
        raw = raw.lower()
    elif setting.field == "processes" and isinstance(raw, str) and ".." in raw:
        raise ValueError("a range of processes is not built yet; give one number.")
    value = msgspec.convert(raw, setting.type, strict=False, dec_hook=_hook)
    if setting.field == "replicas" and value not in (1, 3, 5):
        raise ValueError("use 1, 3 or 5.")
    if setting.field in ("region", "pool") and not is_token(value):
        raise ValueError("use 1 to 64 of A-Z a-z 0-9 _ - and do not begin with _.")
    if setting.field == "worker_id" and value and not is_token(value):
        raise ValueError("use 1 to 64 of A-Z a-z 0-9 _ - and do not begin with _.")
    return value


def _regions(raw: object) -> list[str]:
    """Names, or how many: `2` is east and west."""
    if isinstance(raw, str):
        raw = int(raw) if raw.strip().isdigit() else [name.strip() for name in raw.split(",") if name.strip()]
    if isinstance(raw, int) and not isinstance(raw, bool):
        if not 1 <= raw <= 64:
            raise ValueError("give 1 to 64 regions.")
        return [*_COMPASS, *(f"region-{n}" for n in range(5, 65))][:raw]
    if not isinstance(raw, list | tuple) or not all(isinstance(name, str) for name in raw):
        raise ValueError("give names like east,west or a number.")
    for name in raw:
        if not is_token(name):
            raise ValueError(f"{name!r} is no region: use 1 to 64 of A-Z a-z 0-9 _ - , none leading _.")
    if len(set(raw)) != len(raw):
        raise ValueError("a region is named twice.")
    return list(raw)


def parse_size(text: str) -> int:
    """
    >>> parse_size("2 GiB"), parse_size("64k"), parse_size("10")
    (2147483648, 64000, 10)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("give bytes, or a size like 256 MiB.")
    unit = found[2].lower()
    step = 1024 if unit.endswith("i") else 1000
    return int(float(found[1]) * step ** "kmgt".find(unit[0]) * step if unit else float(found[1]))


def _message(setting: Setting, raw: object, error: Exception) -> str:
    said = str(error)
    if isinstance(error, msgspec.ValidationError):
        said = said[0].lower() + said[1:] + ("" if said.endswith(".") else ".")
    return f"{str(raw)[:80]!r} will not do: {said} {setting.description}"
