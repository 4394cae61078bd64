"""How a run of a type is begun: everything that can be known before the first run is known by then."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

from echelon.child.outcome import misfit
from echelon.child.resolve import resolve
from echelon.errors import BadArguments
from echelon.running import Context, current
from echelon.signature import Signature
from echelon.tasks import Task
from echelon.wire.child import Run

_NOTHING: Final = frozenset((b"", b"{}", b"null"))


class Plan:
    """A handler with its arguments' decoder. `function` fits the lane it runs in."""

    __slots__ = ("_context", "_fields", "_signature", "function")

    def __init__(self, task: Task[..., Any, Any], lane: str) -> None:
        assert task.function is not None
        assert task.signature is not None
        self._signature: Signature = task.signature
        self._context = self._signature.context
        self._fields = bool(self._signature.fields)
        self.function = _for_lane(task.function, lane)

    def arguments(self, run: Run, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decoded and checked, the context in its place.

        Raises:
            Misfit: the payload does not fit the handler.
        """
        payload = run.payload
        if payload in _NOTHING and not self._fields:
            args: tuple[Any, ...] = ()
            kwargs: dict[str, Any] = {}
        else:
            try:
                if run.inputs and run.resolve:
                    payload = resolve(payload, context.results)
                args, kwargs = self._signature.arguments(payload)
            except BadArguments as error:
                raise misfit(error) from None
        wanted = self._context
        if wanted is None:
            return args, kwargs
        if wanted.place is None:
            kwargs[wanted.name] = context
            return args, kwargs
        return (*args[: wanted.place], context, *args[wanted.place :]), kwargs


def first_step(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Context
) -> tuple[Any, Any]:
    """Begin a coroutine: (None, its result) if it ended at once, else (coroutine, what it waits for)."""
    current.set(context)
    coroutine = function(*args, **kwargs)
    try:
        return coroutine, coroutine.send(None)
    except StopIteration as end:
        return None, end.value


def call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Context
) -> Any:
    current.set(context)
    return function(*args, **kwargs)


def _for_lane(function: Callable[..., Any], lane: str) -> Callable[..., Any]:
    """The function, or a shim: a type may come to the other lane while workers of two releases run."""
    if lane == "async":
        if inspect.iscoroutinefunction(function) and function.__code__.co_flags & inspect.CO_COROUTINE:
            return function

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            value = function(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        return awaited
    if not inspect.iscoroutinefunction(function):
        return function

    @wraps(function)
    def ran(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return ran


def plans(tasks: Mapping[str, Task[..., Any, Any]], lane: str) -> dict[str, Plan]:
    return {name: Plan(task, lane) for name, task in tasks.items()}
