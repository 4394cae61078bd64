"""Requests to the master and the reader, and their answers. msgpack arrays: read by position.

New fields are appended, each with a default: an older peer skips them, a newer one fills them in.
"""

from __future__ import annotations

from typing import Final

import msgspec

from echelon.wire.codec import pack


class Backoff(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Seconds between the runs of a task: min(cap, base × factor^n) plus up to `jitter_s` by chance."""

    kind: str = "exponential"
    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter_s: float = 1.0


class Options(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What most tasks share. Hashable, so that schedulers keep each distinct one once."""

    timeout_s: float = 300.0
    retries: int = 3
    region: str = ""  # "" = wherever there is room
    pool: str = "default"
    tags: tuple[str, ...] = ()
    tenant: str = "default"
    backoff: Backoff = Backoff()
    resolve: bool = True  # replace `result_from_x` and {"$result": …} by results of dependencies


DEFAULTS: Final = Options()


class Submission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One task as its user gave it. `payload` is JSON text, empty when there is none."""

    type: str
    payload: bytes = b""
    id: str = ""
    priority: int = 5
    dependencies: tuple[str, ...] = ()
    options: Options | None = None  # None = DEFAULTS
    blob: str = ""  # payload above INLINE_BYTES: its name in the object store
    payload_bytes: int = 0  # its size, where it lies in the object store
    traceparent: str = ""


class Group(msgspec.Struct, array_like=True):
    """What one caller submits: admitted whole or not at all."""

    key: str  # made by the caller, kept for its retries: a lost answer never submits twice
    tasks: list[Submission]


class Submit(msgspec.Struct, array_like=True):
    """Several callers' groups in one request of at most 1,000 tasks and 512 KiB."""

    inbox: str  # where the ends of these tasks are announced; "" = nobody waits
    groups: list[Group]


class FieldError(msgspec.Struct, frozen=True, array_like=True):
    field: str  # "priority", "tasks[3].dependencies[0]"
    code: str
    message: str


class Refusal(msgspec.Struct, array_like=True, tag="refused"):
    """RFC 9457's problem document, by position."""

    code: str
    status: int
    title: str
    detail: str
    mend: str = ""
    errors: list[FieldError] = []
    retry_after_s: float = 0.0


class Admission(msgspec.Struct, array_like=True, tag="admitted"):
    """New tasks have the refs `first`, `first + 1` … in the order of the group, but those that existed."""

    first: int
    count: int  # tasks of the group, new and known together
    known: dict[int, int] = {}  # index in the group -> ref, for ids that existed with equal content

    def refs(self) -> list[int]:
        if not self.known:
            return list(range(self.first, self.first + self.count))
        new = iter(range(self.first, self.first + self.count))
        return [self.known[i] if i in self.known else next(new) for i in range(self.count)]


class SubmitAnswer(msgspec.Struct, array_like=True):
    """One answer a group, in order. `position`: the ledger sequence up to which all of it is durable."""

    position: int
    groups: list[Admission | Refusal]


class Act(msgspec.Struct, array_like=True):
    """Cancel or retry these tasks; the subject says which."""

    ids: list[str]
    by: str = ""
    reason: str = ""


class Done(msgspec.Struct, array_like=True, tag="done"):
    """The act stands in the ledger. `stage` is what the task is in now."""

    ref: int
    stage: str


class ActAnswer(msgspec.Struct, array_like=True):
    position: int
    items: list[Done | Refusal]


class Where(msgspec.Struct, array_like=True, gc=False):
    """Tasks whose results lie in one message of `outcomes_stream(region)`."""

    region: str
    sequence: int
    refs: list[int]


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task ended otherwise than well. `cause` is a code, `detail` what it speaks of."""

    ref: int
    kind: str  # failed | cancelled | expired
    cause: str = ""  # error | timeout | died | lost | poison | dependency_failed | cancelled …
    detail: str = ""  # for dependency_failed: the id of the dependency
    region: str = ""
    sequence: int = 0  # where the last outcome lies, 0 = nowhere


class Notice(msgspec.Struct, array_like=True):
    """What ended, sent to an inbox once it is durable. A hint: whoever waits also asks."""

    ok: list[Where]
    ended: list[End]


class Ask(msgspec.Struct, array_like=True):
    """Have these ended? Answered by a reader with a Notice of those that have."""

    refs: list[int]
    position: int = 0  # answer as of this ledger sequence or later


class Get(msgspec.Struct, array_like=True):
    """Tasks by id; answered with `list[bytes]`, each the JSON of `GET /api/tasks/{id}` or empty."""

    ids: list[str]
    position: int = 0


submit_request: Final = msgspec.msgpack.Decoder(Submit).decode
submit_answer: Final = msgspec.msgpack.Decoder(SubmitAnswer).decode
act_request: Final = msgspec.msgpack.Decoder(Act).decode
act_answer: Final = msgspec.msgpack.Decoder(ActAnswer).decode
ask_request: Final = msgspec.msgpack.Decoder(Ask).decode
get_request: Final = msgspec.msgpack.Decoder(Get).decode
get_answer: Final = msgspec.msgpack.Decoder(list[bytes]).decode
notice: Final = msgspec.msgpack.Decoder(Notice).decode
_refusal: Final = msgspec.msgpack.Decoder(Refusal).decode


def options_of(task: Submission) -> Options:
    return DEFAULTS if task.options is None else task.options


def refusal_of(data: bytes) -> Refusal | None:
    """The refusal of a whole request, if that is what answers it: its first item is its tag.

    >>> refusal_of(pack(Refusal("unavailable", 503, "", ""))).code, refusal_of(pack(ActAnswer(7, [])))
    ('unavailable', None)
    """
    return _refusal(data) if data[1:9] == b"\xa7refused" else None


def fingerprint(task: Submission) -> bytes:
    """What makes two submissions of one id equal: everything the user said, defaults filled in."""
    return pack(
        (
            task.type,
            task.payload,
            task.priority,
            sorted(set(task.dependencies)),
            options_of(task),
            task.blob and task.payload_bytes,
        )
    )
