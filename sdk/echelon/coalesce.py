"""Many callers, one request, no timer: what arrives while requests are under way travels with the next.

Each caller's tasks are a group with a key of its own, encoded once. A request whose outcome is unknown (no
answer, nobody listens) is sent again with the same bytes: the master remembers the keys, so a lost answer
never submits twice. Knows nothing of NATS: what it needs is a function that asks.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from echelon.errors import EchelonError, PayloadTooLarge, Unavailable, error_of
from echelon.wire.api import Admission, Group, Refusal, Submission, refusal_of, submit_answer
from echelon.wire.codec import pack
from echelon.wire.names import INLINE_BYTES, REQUEST_BYTES, TASKS_PER_REQUEST

AT_ONCE: Final = 4
PATIENCE_S: Final = 30.0
ENVELOPE_BYTES: Final = 1024
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8)


class Admitted(NamedTuple):
    """What became of one group. `position`: the ledger sequence at which it is durable."""

    position: int
    admission: Admission


class _Waiting(NamedTuple):
    encoded: bytes
    tasks: int
    answer: asyncio.Future[Admitted]


class Coalescer:
    def __init__(
        self,
        request: Callable[[bytes], Awaitable[bytes]],
        unknown: tuple[type[Exception], ...],
        inbox: Callable[[], str] = str,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`request` sends a Submit and returns the answer; `unknown`: what it raises when nobody can tell
        whether the tasks were admitted. `inbox`: where their ends shall be announced."""
        self._request = request
        self._unknown = unknown
        self._inbox = inbox
        self._patience_s = patience_s
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._woken = False

    async def submit(self, tasks: Sequence[Submission], key: str = "") -> Admitted:
        """Admit all of these or none; at most 1,000, and with their payloads 512 KiB.

        Raises:
            PayloadTooLarge: together they are too large for one request.
            EchelonError: the master refused. Unavailable: no answer within the patience.
        """
        encoded = pack(Group(key or uuid.uuid4().hex, list(tasks)))
        if len(encoded) > REQUEST_BYTES - ENVELOPE_BYTES:
            raise PayloadTooLarge(tasks[0].type, len(encoded), REQUEST_BYTES)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Admitted] = loop.create_future()
        self._waiting.append(_Waiting(encoded, len(tasks), answer))
        self._wake(loop)
        return await answer

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """At the end of this turn of the loop, so that what comes in one turn travels together."""
        if self._waiting and not self._woken and len(self._under_way) < AT_ONCE:
            self._woken = True
            loop.call_soon(self._go)

    def _go(self) -> None:
        self._woken = False
        while self._waiting and len(self._under_way) < AT_ONCE:
            task = asyncio.ensure_future(self._carry(self._take()))
            self._under_way.add(task)
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._wake(task.get_loop())

    def _take(self) -> list[_Waiting]:
        """As many as fit into one request, in order."""
        taken: list[_Waiting] = []
        tasks = size = 0
        while self._waiting:
            first = self._waiting[0]
            tasks += first.tasks
            size += len(first.encoded)
            if taken and (tasks > TASKS_PER_REQUEST or size > REQUEST_BYTES - ENVELOPE_BYTES):
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _carry(self, taken: list[_Waiting]) -> None:
        try:
            answers = await self._ask(taken)
        except EchelonError as error:
            for waiting in taken:
                _fail(waiting, error)
        except BaseException:
            for waiting in taken:
                waiting.answer.cancel()
            raise
        else:
            position, outcomes = answers
            for waiting, outcome in zip(taken, outcomes, strict=True):
                if isinstance(outcome, Refusal):
                    _fail(waiting, error_of(outcome))
                elif not waiting.answer.done():
                    waiting.answer.set_result(Admitted(position, outcome))

    async def _ask(self, taken: list[_Waiting]) -> tuple[int, list[Admission | Refusal]]:
        head = b"\x92" + pack(self._inbox()) + b"\xdc" + len(taken).to_bytes(2, "big")
        request = b"".join((head, *(waiting.encoded for waiting in taken)))
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_s
        tries = 0
        while True:
            reason = "the master is not ready"
            try:
                data = await self._request(request)
            except self._unknown as error:
                reason = str(error)
            else:
                refusal = refusal_of(data)
                if refusal is None:
                    answer = submit_answer(data)
                    return answer.position, answer.groups
                if refusal.code != Unavailable.code:
                    raise error_of(refusal)
                reason = refusal.detail or reason
            if loop.time() >= until:
                raise Unavailable(f"No master has answered for {self._patience_s:g} s ({reason}).")
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1


def _fail(waiting: _Waiting, error: EchelonError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def to_be_moved(tasks: Sequence[Submission]) -> list[int]:
    """Whose payload goes into the object store first: what is too large by itself, then the largest ones
    until the group fits one request.

    >>> to_be_moved([Submission("a", b"x" * 200_000), Submission("b", b"x")])
    [0]
    """
    moved = [index for index, task in enumerate(tasks) if len(task.payload) > INLINE_BYTES]
    left = sum(weight(task) for task in tasks) - sum(len(tasks[index].payload) for index in moved)
    if left > REQUEST_BYTES - ENVELOPE_BYTES:
        gone = set(moved)
        for index in sorted(range(len(tasks)), key=lambda index: -len(tasks[index].payload)):
            if left <= REQUEST_BYTES - ENVELOPE_BYTES:
                break
            if index not in gone:
                moved.append(index)
                left -= len(tasks[index].payload)
    return moved


def weight(task: Submission) -> int:
    """Bytes in a request, not less than there are."""
    more = 200 if task.options is not None else 0
    more += sum(len(dependency) + 3 for dependency in task.dependencies)
    if task.options is not None:
        more += sum(4 * len(tag) + 5 for tag in task.options.tags)
    return len(task.payload) + len(task.type) + len(task.id) + len(task.traceparent) + 100 + more
