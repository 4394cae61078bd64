"""Streams, buckets and consumers: made when missing, brought up to date when different, never removed.

Logs and work queues take atomic batches (the wall needs them) and refuse what does not fit (`discard: new`):
an old entry is never dropped to make room. All files, since everything here is the record of something.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from echelon.wire.names import BLOBS
from echelon_core import names

from .connection import Bus
from .errors import MESSAGE_NOT_FOUND, STREAM_NAME_IN_USE, STREAM_NOT_FOUND, ApiError, NoResponders, Timeout

_NS: Final = 1_000_000_000
_DUPLICATE_WINDOW_NS: Final = (
    100_000_000  # the least that the server takes: nothing here rests on message ids
)
_MARKER_TTL_S: Final = 10
_PATIENCE_S: Final = 30.0

_json: Final = msgspec.json.Encoder().encode
T = TypeVar("T")


async def ensure_hub(bus: Bus, *, replicas: int = 1) -> None:
    """The ledger, the leases and the blobs.

    Raises:
        ApiError: a stream of that name exists and cannot be made into ours.
        Timeout, NoResponders: JetStream was not there for 30 s.
    """
    await _ensure_stream(bus, names.LEDGER, [names.LEDGER_SUBJECTS], replicas, allow_atomic=True)
    await _ensure_stream(
        bus,
        names.LEASES_STREAM,
        [names.lease_subject(">")],
        replicas,
        max_msgs_per_subject=1,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=_MARKER_TTL_S * _NS,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
    await _ensure_stream(
        bus,
        names.BLOBS_STREAM,
        [f"$O.{BLOBS}.C.>", f"$O.{BLOBS}.M.>"],
        replicas,
        allow_rollup_hdrs=True,
    )


async def ensure_region(bus: Bus, region: str, *, replicas: int = 1) -> None:
    """A region's outcomes, log and work queue. Raises as `ensure_hub`."""
    await _ensure_stream(bus, names.outcomes(region), [names.outcome_subject(region)], replicas)
    await _ensure_stream(
        bus, names.region_log(region), [names.region_subject(region)], replicas, allow_atomic=True
    )
    await _ensure_stream(
        bus,
        names.work(region),
        [names.work_subjects(region)],
        replicas,
        retention="workqueue",
        allow_atomic=True,
    )


async def ensure_lane(bus: Bus, region: str, pool: str, lane: str, *, ack_wait_s: float = 30.0) -> None:
    """The durable pull consumer of a lane. Raises as `ensure_hub`."""
    stream, consumer = names.work(region), names.work_consumer(pool, lane)
    body = {
        "stream_name": stream,
        "config": {
            "durable_name": consumer,
            "name": consumer,
            "filter_subject": names.work_subject(region, pool, lane),
            "ack_policy": "explicit",
            "ack_wait": round(ack_wait_s * _NS),
            "deliver_policy": "all",
            "max_ack_pending": 100_000,
            "max_waiting": 8192,
        },
    }
    await retrying(lambda: bus.api(f"CONSUMER.DURABLE.CREATE.{stream}.{consumer}", body))


async def lane_delivered(bus: Bus, region: str, pool: str, lane: str) -> int:
    """The highest sequence of the work queue that was handed to anybody in this lane.

    Raises:
        ApiError: there is no such lane. Timeout, NoResponders: as `ensure_hub`.
    """
    verb = f"CONSUMER.INFO.{names.work(region)}.{names.work_consumer(pool, lane)}"
    info = await retrying(lambda: bus.api(verb))
    return int(info["delivered"]["stream_seq"])


async def last_sequence(bus: Bus, stream: str) -> int:
    """The sequence of the newest message ever stored, whether or not it is still there.

    Raises:
        ApiError: there is no such stream. Timeout, NoResponders: as `ensure_hub`.
    """
    info = await retrying(lambda: bus.api(f"STREAM.INFO.{stream}"))
    return int(info["state"]["last_seq"])


async def purge_subject(bus: Bus, stream: str, subject: str) -> None:
    """Remove the messages of one subject (wildcards allowed). The last sequence stays. Raises as above."""
    await retrying(lambda: bus.api(f"STREAM.PURGE.{stream}", {"filter": subject}))


async def delete_messages(bus: Bus, stream: str, sequences: Sequence[int]) -> None:
    """Ask for the deletion of messages, without waiting for answers: a lost one is repeated by the caller."""
    subject, nobody = f"$JS.API.STREAM.MSG.DELETE.{stream}", bus.inbox()
    for seq in sequences:
        await bus.publish(subject, _json({"seq": seq, "no_erase": True}), reply=nobody)


async def last_of_subject(bus: Bus, stream: str, subject: str) -> dict[str, Any] | None:
    """The newest message of a subject (wildcards allowed) as the stream's leader stores it, in JetStream's
    own shape (`seq`, `subject`, `hdrs`, `data`, `time`), or None."""
    try:
        answer = await bus.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ApiError as error:
        if error.err_code == MESSAGE_NOT_FOUND:
            return None
        raise
    message: dict[str, Any] = answer["message"]
    return message


async def retrying(ask: Callable[[], Awaitable[T]], patience_s: float = _PATIENCE_S) -> T:
    """Ask until there is an answer: a server that starts, or a stream that elects a leader, answers with
    silence, "no responders" or a 503, all of which pass. The last such error is raised when patience ends."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return await ask()
        except (Timeout, NoResponders):
            if time.monotonic() > deadline:
                raise
        except ApiError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


async def _ensure_stream(bus: Bus, name: str, subjects: list[str], replicas: int, **more: object) -> None:
    config: dict[str, object] = {
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "allow_direct": True,
        "duplicate_window": _DUPLICATE_WINDOW_NS,
        **more,
    }
    try:
        await retrying(lambda: bus.api(f"STREAM.UPDATE.{name}", config, timeout_s=5.0))
    except ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        try:
            await retrying(lambda: bus.api(f"STREAM.CREATE.{name}", config, timeout_s=5.0))
        except ApiError as created:  # by another process, a moment ago
            if created.err_code != STREAM_NAME_IN_USE:
                raise
