"""What a handler may ask about its own run.

A handler gets the context as a parameter annotated `Context` (or unannotated and named `ctx`), and
`echelon.context()` gives it anywhere below the handler, in threads and tasks that it starts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from echelon.wire.child import Run
from echelon.wire.codec import from_json
from echelon.wire.names import id_of

current: Final[ContextVar[Context]] = ContextVar("context of the run")


class Results(Mapping[str, Any]):
    """Results of the dependencies by their ids, each decoded when it is asked for."""

    def __init__(self, run: Run) -> None:
        self._encoded = {given.id: given.value for given in run.inputs or ()}
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, task_id: str) -> Any:
        if task_id not in self._decoded:
            try:
                self._decoded[task_id] = from_json(self._encoded[task_id])
            except KeyError:
                known = ", ".join(list(self._encoded)[:10]) or "there are none"
                raise KeyError(f"{task_id!r} is no dependency of this task ({known})") from None
        return self._decoded[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)


class Context:
    """One run of a task, seen from inside."""

    __slots__ = ("__weakref__", "_results", "_run", "_stopped")

    def __init__(self, run: Run, stopped: Callable[[], bool] | None = None) -> None:
        self._run = run
        self._stopped = stopped
        self._results: Results | None = None

    @property
    def task_id(self) -> str:
        return self._run.id or id_of(self._run.ref)

    @property
    def attempt(self) -> int:
        """1 for the first run; runs that were lost or handed back do not count."""
        return self._run.attempt

    @property
    def idempotency_key(self) -> str:
        """The same in all runs of this task and in no other task: give it to services that ask for one."""
        return id_of(self._run.ref)

    @property
    def results(self) -> Results:
        if self._results is None:
            self._results = Results(self._run)
        return self._results

    @property
    def cancelled(self) -> bool:
        """Was this run told to end, by a cancel or its timeout?

        A coroutine is cancelled as well; a sync function has to look, and is killed if it does not end.
        """
        return self._stopped is not None and self._stopped()

    def __repr__(self) -> str:
        return f"<Context of {self.task_id}, attempt {self.attempt}>"


def context() -> Context:
    """The context of the run that this code belongs to.

    Raises:
        LookupError: no task is running here.
    """
    try:
        return current.get()
    except LookupError:
        raise LookupError(
            "No task is running here; only a handler, and what it calls, has a context."
        ) from None


class Fatal(Exception):
    """Raised by a handler: the task has failed for good, no retry."""
