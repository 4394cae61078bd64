"""The same for code that is not async: a loop in a thread of its own does the work.

client = SyncClient()
handle = client.submit(add, 2, 3)
print(handle.result(timeout=10))
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from echelon.client import Client
from echelon.handle import Handle
from echelon.tasks import Task
from echelon.wire.api import Submission

T = TypeVar("T")
_DONE: Any = object()


class SyncHandle(Generic[T]):
    """A task in the future."""

    __slots__ = ("_client", "_handle")

    def __init__(self, client: SyncClient, handle: Handle[T]) -> None:
        self._client = client
        self._handle = handle

    @property
    def id(self) -> str:
        return self._handle.id

    @property
    def ref(self) -> int:
        return self._handle.ref

    def result(self, timeout: float | None = None) -> T:
        """As `Handle.result`."""
        return self._client._do(self._handle.result(timeout))

    def status(self) -> str:
        return self._client._do(self._handle.status())

    def get(self) -> dict[str, Any]:
        return self._client._do(self._handle.get())

    def cancel(self, reason: str = "") -> None:
        self._client._do(self._handle.cancel(reason))

    def __repr__(self) -> str:
        return repr(self._handle)


class SyncClient:
    """`Client`, blocking. May be used by several threads."""

    def __init__(self, url: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="echelon", daemon=True)
        self._thread.start()
        self.pid = os.getpid()
        try:
            self._client = self._do(_made(url))
        except BaseException:
            self._end()
            raise

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def submit(self, task: Task[..., Any, T] | str, /, *args: Any, **kwargs: Any) -> SyncHandle[T]:
        """As `Client.submit`."""
        return SyncHandle(self, self._do(self._client.submit(task, *args, **kwargs)))

    def submit_many(self, tasks: Iterable[Submission]) -> Iterator[SyncHandle[Any]]:
        """As `Client.submit_many`. `tasks` is iterated in another thread."""
        chunks = self._client.submit_chunks(tasks)
        try:
            while (handles := self._do(_next(chunks))) is not _DONE:
                for handle in handles:
                    yield SyncHandle(self, handle)
        finally:
            self._do(_close(chunks))

    def results(self, handles: Sequence[SyncHandle[T]], timeout: float | None = None) -> list[T]:
        """As `Client.results`."""
        return self._do(self._client.results([handle._handle for handle in handles], timeout))

    def get(self, task_id: str) -> dict[str, Any]:
        return self._do(self._client.get(task_id))

    def status(self, task_id: str) -> str:
        return self._do(self._client.status(task_id))

    def cancel(self, task_id: str, *, reason: str = "") -> None:
        self._do(self._client.cancel(task_id, reason=reason))

    def retry(self, task_id: str, *, reason: str = "") -> None:
        self._do(self._client.retry(task_id, reason=reason))

    def close(self) -> None:
        """Tasks that were submitted go on."""
        if self._loop.is_running():
            self._do(self._client.close())
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _made(url: str | None) -> Client:
    return Client(url)


async def _next(chunks: AsyncIterator[list[Handle[Any]]]) -> Any:
    return await anext(chunks, _DONE)


async def _close(chunks: Any) -> None:
    await chunks.aclose()


_default: SyncClient | None = None
_making = threading.Lock()


def default_client() -> SyncClient:
    """The blocking client of this process. A forked process makes one of its own."""
    global _default
    with _making:
        if _default is None or _default.pid != os.getpid():
            _default = SyncClient()
        return _default
