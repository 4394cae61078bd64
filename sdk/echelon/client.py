"""A connection to an Echelon: submit, wait, look, cancel.

    async with Client() as client:                                # finds the server itself
        handle = await client.submit(add, a=2, b=3)               # a function with @task, or a name
        print(await handle.result())
        async for handle in client.submit_many(add.bind(n, 1) for n in range(1_000_000)): ...

Arguments of the handler are all that `submit` takes beside the task; options stand on the task
(`add.options(priority=10, id="x")`, `remote("name", pool="gpu")`), so that neither can hide the other.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from echelon.coalesce import (
    AT_ONCE,
    ENVELOPE_BYTES,
    PATIENCE_S,
    Admitted,
    Coalescer,
    to_be_moved,
    weight,
)
from echelon.discover import find
from echelon.ends import Ended, Ends
from echelon.errors import (
    EchelonError,
    Invalid,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
    alone,
    error_of,
)
from echelon.handle import Handle
from echelon.tasks import Task, remote
from echelon.transport import NoAnswer, Transport
from echelon.wire import names
from echelon.wire.api import (
    Act,
    ActAnswer,
    Done,
    Get,
    Refusal,
    Submission,
    act_answer,
    get_answer,
    refusal_of,
)
from echelon.wire.check import check_group, check_task
from echelon.wire.codec import from_json, pack

T = TypeVar("T")

OVERLOAD_PATIENCE_S: Final = 600.0
"""`submit_many` waits so long for a full backlog to drain before it gives up."""
_READ_S: Final = 5.0


class Client:
    """`url`: nats://user:password@host:port; None: found as `discover` says. Connects at first use."""

    def __init__(self, url: str | None = None) -> None:
        self.ends = Ends(self._ask_ends, self._outcome, NoAnswer)
        place = find(url, os.environ, Path.cwd())
        self._transport = Transport(place, self.ends.on_notice, self.ends.again)
        self._coalescer = Coalescer(self._send, (NoAnswer,), lambda: self._transport.inbox)

    async def __aenter__(self) -> Client:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Tasks that were submitted go on; who still waits for a result is cancelled."""
        self.ends.close()
        await self._transport.close()

    async def _send(self, data: bytes) -> bytes:
        return await self._transport.request(names.SUBMIT, data)

    async def _ask_ends(self, data: bytes) -> bytes:
        return await self._transport.request(names.RESULT, data, _READ_S)

    async def _outcome(self, region: str, sequence: int) -> bytes | None:
        return await self._transport.outcome(region, sequence)

    # --------------------------------------------------------------------------------- submitting
    async def submit(self, task: Task[..., Any, T] | str, /, *args: Any, **kwargs: Any) -> Handle[T]:
        """Submit one task; back when it is durable. All arguments are the handler's.

        Raises:
            BadArguments, Invalid: nothing was sent.
            TaskIdConflict, Overloaded: the server refused.
            Unavailable: nobody answered for 30 s; NoServer: nothing is there.
        """
        wanted: Task[..., Any, T] = remote(task) if isinstance(task, str) else task
        bound = wanted.bind(*args, **kwargs)
        try:
            [handle] = await self._submit([bound], "")
        except EchelonError as error:
            raise alone(error) from None
        return handle

    async def submit_raw(self, tasks: Sequence[Submission], key: str = "") -> Admitted:
        """Submit what `bind` gave, all or nothing. `key`: of an earlier call that this repeats.

        Raises:
            as `submit`.
        """
        errors = check_group(tasks)
        if errors:
            raise Invalid(errors)
        return await self._admit(tasks, key)

    async def submit_many(
        self, tasks: Iterable[Submission] | AsyncIterable[Submission]
    ) -> AsyncIterator[Handle[Any]]:
        """Submit any number in flat memory; their handles in order. `tasks`: what `bind` gave.

        They travel 1,000 at a time, a few requests at once, each admitted whole or not at all; what stood
        before an error is admitted. Dependencies may name any task that came earlier. Where the backlog is
        full this waits until there is room.

        Raises:
            Invalid: naming the task by its number. Otherwise as `submit`.
        """
        async for handles in self.submit_chunks(tasks):
            for handle in handles:
                yield handle

    async def submit_chunks(
        self, tasks: Iterable[Submission] | AsyncIterable[Submission]
    ) -> AsyncIterator[list[Handle[Any]]]:
        """As `submit_many`, by the requestful."""
        window: deque[asyncio.Task[list[Handle[Any]]]] = deque()
        try:
            async for chunk in _chunks(tasks):
                if any(task.dependencies for task in chunk):  # what they name must be there before them
                    while window:
                        yield await window.popleft()
                window.append(asyncio.ensure_future(self._patiently(chunk)))
                if len(window) >= AT_ONCE:
                    yield await window.popleft()
            while window:
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def _patiently(self, tasks: list[Submission]) -> list[Handle[Any]]:
        loop = asyncio.get_running_loop()
        until = loop.time() + OVERLOAD_PATIENCE_S
        key = uuid.uuid4().hex
        while True:
            try:
                return await self._submit(tasks, key)
            except Overloaded as error:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(min(max(error.retry_after_s, 0.05), 5.0))

    async def _submit(self, tasks: Sequence[Submission], key: str) -> list[Handle[Any]]:
        era = self.ends.era
        _, admission = await self._admit(tasks, key)
        known = admission.known
        return [
            Handle(self, ref, task.id, -1 if index in known else era)
            for index, (task, ref) in enumerate(zip(tasks, admission.refs(), strict=True))
        ]

    async def _admit(self, tasks: Sequence[Submission], key: str) -> Admitted:
        await self._transport.open()
        admitted = await self._coalescer.submit(await self._lightened(tasks), key)
        self.ends.position = max(self.ends.position, admitted.position)
        return admitted

    async def _lightened(self, tasks: Sequence[Submission]) -> Sequence[Submission]:
        """Payloads that are too large for a request go into the object store."""
        moved = to_be_moved(tasks)
        if not moved:
            return tasks
        light = list(tasks)
        for index in moved:
            task = light[index]
            size = len(task.payload)
            if size > names.PAYLOAD_BYTES:
                raise PayloadTooLarge(task.type, size, names.PAYLOAD_BYTES)
            blob = f"p-{uuid.uuid4().hex}"
            try:
                await self._transport.put_blob(blob, task.payload)
            except NoAnswer as error:
                raise Unavailable(f"The payload could not be stored: {error}.") from None
            light[index] = msgspec.structs.replace(task, payload=b"", blob=blob, payload_bytes=size)
        return light

    # ------------------------------------------------------------------------------------ waiting
    async def results(
        self,
        handles: Sequence[Handle[T]],
        timeout: float | None = None,  # noqa: ASYNC109  the name that users know
    ) -> list[T]:
        """The results of all, in order.

        Raises:
            as `Handle.result`, for the first in order that has none.
        """
        waiting = [handle.wait() for handle in handles]
        try:
            if timeout is not None and waiting:
                _, late = await asyncio.wait(waiting, timeout=timeout)
                if late:
                    raise TimeoutError(
                        f"{len(late)} of {len(waiting)} tasks have not ended within {timeout:g} s."
                    )
            return [await handle.value(await future) for handle, future in zip(handles, waiting, strict=True)]
        finally:
            for future in waiting:
                future.cancel()

    async def as_completed(self, handles: Iterable[Handle[T]]) -> AsyncIterator[Handle[T]]:
        """Each handle when its task has ended, however it ended."""
        ended: asyncio.Queue[Handle[T]] = asyncio.Queue()
        waiting: list[asyncio.Future[Ended]] = []
        for handle in handles:
            future = handle.wait()
            future.add_done_callback(lambda _, handle=handle: ended.put_nowait(handle))  # type: ignore[misc]
            waiting.append(future)
        try:
            for _ in waiting:
                yield await ended.get()
        finally:
            for future in waiting:
                future.cancel()

    async def blob(self, name: str) -> bytes | None:
        """A large result.

        Raises:
            Unavailable: the server does not answer.
        """
        try:
            return await self._transport.get_blob(name)
        except NoAnswer as error:
            raise Unavailable(f"The result could not be read: {error}.") from None

    # -------------------------------------------------------------------------------- by task id
    async def get(self, task_id: str) -> dict[str, Any]:
        """All that is known of a task, as `GET /api/tasks/{id}` gives it.

        Raises:
            NotFound: there is no such task. Unavailable: no reader answers.
        """
        text = await self._read(task_id)
        if not text and await self._caught_up():  # somebody else may have submitted it a moment ago
            text = await self._read(task_id)
        if not text:
            raise NotFound("task", task_id)
        document: dict[str, Any] = from_json(text)
        return document

    async def _read(self, task_id: str) -> bytes:
        asked = pack(Get([task_id], self.ends.position))
        try:
            data = await self._transport.request(names.GET, asked, _READ_S)
        except NoAnswer as error:
            raise Unavailable(f"No reader answers ({error}); `echelon web` is one.") from None
        if (refusal := refusal_of(data)) is not None:
            raise error_of(refusal)
        return get_answer(data)[0]

    async def _caught_up(self) -> bool:
        """Ask the master where its ledger ends: reads wait for that from now on. False: they did before."""
        try:
            told = msgspec.msgpack.decode(await self._transport.request(names.PING, b""))
        except NoAnswer:
            return False
        before, self.ends.position = self.ends.position, max(self.ends.position, told["position"])
        return self.ends.position > before

    async def status(self, task_id: str) -> str:
        """pending, running, completed, failed or cancelled. Raises as `get`."""
        return str((await self.get(task_id))["status"])

    async def cancel(self, task_id: str, *, reason: str = "") -> None:
        """Back when the wish stands in the ledger; a task that runs ends soon after.

        Raises:
            NotFound, AlreadyEnded, Unavailable.
        """
        await self._act(names.CANCEL, task_id, reason)

    async def retry(self, task_id: str, *, reason: str = "") -> None:
        """Begin a new series of attempts of a task that failed, expired or was cancelled.

        Raises:
            NotFound, StillLive, Unavailable.
        """
        await self._act(names.RETRY, task_id, reason)

    async def _act(self, subject: str, task_id: str, reason: str) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while True:
            try:
                answer = await self._transport.request(subject, pack(Act([task_id], "sdk", reason)))
            except NoAnswer as error:
                why = str(error)
            else:
                refusal = refusal_of(answer)
                if refusal is None:
                    self._acted(act_answer(answer))
                    return
                if refusal.code != Unavailable.code:
                    raise error_of(refusal)
                why = refusal.detail
            if loop.time() >= until:
                raise Unavailable(f"No master has answered for {PATIENCE_S:g} s ({why}).")
            await asyncio.sleep(0.2)

    def _acted(self, answer: ActAnswer) -> None:
        self.ends.position = max(self.ends.position, answer.position)
        [item] = answer.items
        match item:
            case Refusal():
                raise error_of(item)
            case Done():
                return


async def _chunks(tasks: Iterable[Submission] | AsyncIterable[Submission]) -> AsyncIterator[list[Submission]]:
    """Requestfuls, each task checked.

    Raises:
        Invalid: naming the task by its number.
    """
    chunk: list[Submission] = []
    size = number = 0
    most = names.REQUEST_BYTES - ENVELOPE_BYTES
    async for task in _each(tasks):
        errors = list(check_task(task, f"tasks[{number}]."))
        if errors:
            raise Invalid(errors)
        number += 1
        heavy = weight(task)
        if len(task.payload) > names.INLINE_BYTES:
            heavy -= len(task.payload)  # it will travel through the object store
        if len(chunk) == names.TASKS_PER_REQUEST or (chunk and size + heavy > most):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += heavy
    if chunk:
        yield chunk


async def _each(tasks: Iterable[Submission] | AsyncIterable[Submission]) -> AsyncIterator[Submission]:
    if isinstance(tasks, AsyncIterable):
        async for task in tasks:
            yield task
    else:
        for task in tasks:
            yield task


_defaults: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()


def default_client() -> Client:
    """The client of this process for the running loop, found by `discover`."""
    loop = asyncio.get_running_loop()
    client = _defaults.get(loop)
    if client is None:
        client = _defaults[loop] = Client()
    return client
