"""What passes between region, supervisor and child: bundles down, outcomes up.

A bundle goes from the region's leader to a child unopened (the supervisor looks at its first field only);
outcomes go from the child to the region unopened too: the supervisor joins encoded items into one message.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from mmap import mmap
from typing import Final, NamedTuple

import msgspec

from echelon.wire.codec import pack


class Input(msgspec.Struct, array_like=True, gc=False):
    """The result of a dependency: which, and where it lies. `value` is filled in by the supervisor."""

    id: str
    ref: int
    region: str
    sequence: int
    value: bytes = b""


class Run(msgspec.Struct, array_like=True, gc=False):
    """One run of a task: what a child needs to know."""

    ref: int
    run: int
    type: str
    payload: bytes
    timeout_s: float
    attempt: int  # 1 = first charged run
    id: str = ""  # "" = made from the ref
    blob: str = ""
    inputs: list[Input] | None = None
    resolve: bool = True
    traceparent: str = ""


class Bundle(msgspec.Struct, array_like=True, gc=False):
    """Runs of one type and level. `errands`: a payload or input must be fetched before they can run."""

    errands: bool
    runs: list[Run]


# Ran.status
OK: Final = 0
ERROR: Final = 1  # raised: charged, retried while runs are left
TIMEOUT: Final = 2  # overran its timeout: charged
DIED: Final = 3  # the child died with it: charged
FATAL: Final = 4  # bad arguments, unencodable result, unknown handler: never retried
CANCELLED: Final = 5  # stopped on order, or never begun because of one
HANDED_BACK: Final = 6  # never begun: not charged


class Error(msgspec.Struct, array_like=True, gc=False):
    type: str
    message: str  # at most 500 characters
    traceback: str = ""


class Ran(msgspec.Struct, array_like=True, gc=False):
    """What became of a run. `result` is JSON text; times are seconds since 1970."""

    ref: int
    run: int
    status: int
    result: bytes
    started: float
    ended: float
    error: Error | None = None
    blob: str = ""  # result above INLINE_BYTES: its name in the object store


class Started(msgspec.Struct, array_like=True, gc=False):
    ref: int
    run: int
    at: float


class Outcomes(msgspec.Struct, array_like=True):
    """One message of the stream of outcomes: what one worker has to say."""

    worker: str
    ran: list[Ran]
    starts: list[Started] = []


outcomes: Final = msgspec.msgpack.Decoder(Outcomes).decode
bundle: Final = msgspec.msgpack.Decoder(Bundle).decode
encode_bundle = pack


def join(worker: str, ran: Sequence[tuple[int, bytes]], starts: Sequence[Started] = ()) -> bytes:
    """Encode Outcomes from (count, concatenated encoded Ran items) without opening the items.

    >>> item = Ran(1, 2, OK, b"null", 0.0, 1.0)
    >>> outcomes(join("w", [(1, pack(item)), (1, pack(item))])).ran == [item, item]
    True
    """
    count = sum(n for n, _ in ran)
    return b"".join(
        (
            b"\x93",
            pack(worker),
            b"\xdd",
            count.to_bytes(4, "big"),
            *(items for _, items in ran),
            pack(list(starts)),
        )
    )


def run_count(encoded_bundle: bytes) -> int:
    """How many runs a bundle has, without decoding.

    >>> run_count(pack(Bundle(False, [Run(1, 1, "t", b"", 1.0, 1)] * 20)))
    20
    """
    head = encoded_bundle[2]
    if head == 0xDC:
        return int.from_bytes(encoded_bundle[3:5], "big")
    return int.from_bytes(encoded_bundle[3:7], "big") if head == 0xDD else head & 0x0F


def needs_errands(encoded_bundle: bytes) -> bool:
    """Look at the first field without decoding: fixarray(2), then false or true."""
    return encoded_bundle[1] == 0xC3


# Frames on the socket between supervisor and child: header, then `size` bytes.
FRAME: Final = struct.Struct("<IBQI")  # size, kind, token (the bundle's number), count


class Kind:
    """Kinds of frames. Down: from the supervisor; up: from the child.

    A bundle is over with its DONE; every run of it was named once by then, in RAN, LARGE or DONE.
    """

    BUNDLE: Final = 1  # down: an encoded Bundle; token names it
    STOP: Final = 2  # down: msgpack (ref, run): end this run if it has not ended
    DRAIN: Final = 3  # down: finish what runs, begin nothing, then exit; what is unreported was not begun
    HELLO: Final = 10  # up: an encoded Hello
    RAN: Final = 11  # up: `count` concatenated Ran items of bundle `token`; more may follow
    DONE: Final = 12  # up: as RAN, and the bundle is finished
    LARGE: Final = 13  # up: one Ran of bundle `token` whose result is above INLINE_BYTES; before its DONE
    STARTED: Final = 14  # up: msgpack list[Started] of runs of bundle `token` that last
    FAILED: Final = 15  # up: text: the application could not be loaded


class Start(msgspec.Struct):
    """What a child is told, as JSON in its only argument: `python -m echelon.child '{"socket": 3, …}'`."""

    socket: int  # file descriptor of the child's end
    state: int  # file descriptor of the page that it shares with the supervisor
    lane: str  # "async" or "sync"
    slots: int  # runs at a time
    app: str  # a file or a module


class TypeInfo(msgspec.Struct, array_like=True):
    """A task type as its decorator says. `lane`: "async" or "sync"."""

    name: str
    lane: str
    doc: str = ""


class Hello(msgspec.Struct, array_like=True):
    pid: int
    types: list[TypeInfo]


hello: Final = msgspec.msgpack.Decoder(Hello).decode
started: Final = msgspec.msgpack.Decoder(list[Started]).decode
stop: Final = msgspec.msgpack.Decoder(tuple[int, int]).decode


# The page that child and supervisor share: a memory file of STATE.size bytes that the child inherits.
STATE: Final = struct.Struct("<QQQdd")
"""beat, ref, run, started, timeout_s: which run the child's one thread executes at this moment.

The child writes it around every run (async: around every step of a coroutine), without a syscall; it is
still there when the child is dead, so it names the run that took the child down.

- beat: grows with every write. Odd: user code executes. Even: none does, the rest is of the past.
- started: when the run began, in `time.monotonic()` of the machine, not wall clock; timeout_s: its timeout.

A look may catch a write half done: act on what two looks some 10 ms apart found with the same beat. A run is
stuck when the beat stays odd and unchanged and `monotonic() > started + timeout_s` plus some grace: the
child cannot cancel it itself (a sync handler, or a coroutine that blocks the loop) and must be killed.
"""


class Executing(NamedTuple):
    """A look at the page. `busy`: user code executes."""

    beat: int
    ref: int
    run: int
    started: float
    timeout_s: float

    @property
    def busy(self) -> bool:
        return bool(self.beat & 1)


def executing(page: bytes | bytearray | memoryview | mmap) -> Executing:
    """
    >>> executing(STATE.pack(3, 1024, 5, 10.0, 300.0)).busy
    True
    """
    return Executing(*STATE.unpack_from(page))


RETIRED: Final = 75
"""Exit code of a child whose cancelled coroutine would not end: all it knew was sent, start another one."""
