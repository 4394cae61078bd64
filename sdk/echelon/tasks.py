"""@task: a function becomes a type of task and stays a function.

    @task(priority="high", retries=5)
    def resize(path: str, width: int = 800) -> str: ...

    resize("a.png")                                       # a plain call
    await resize.submit("a.png", width=300)               # a task, by the default client
    await resize.options(id="a-1").submit("a.png")        # options stand apart from arguments
    client.submit_many(resize.bind(path) for path in paths)
    await remote("resize", pool="gpu").submit(path="a.png")   # by name: the function is elsewhere

`options` gives a copy, so a task can be prepared once and used often. What `bind` gives is what travels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import cached_property, update_wrapper
from importlib import import_module
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import msgspec

from echelon.errors import Invalid
from echelon.running import Context
from echelon.signature import Signature, payload_of
from echelon.wire.api import DEFAULTS, FieldError, Options, Submission
from echelon.wire.check import check_task
from echelon.wire.names import PRIORITIES

if TYPE_CHECKING:
    from echelon.handle import Handle
    from echelon.sync import SyncHandle

P = ParamSpec("P")
T = TypeVar("T")
CallT = TypeVar("CallT")

_REGISTRY: Final[dict[str, Task[..., Any, Any]]] = {}


class DuplicateTask(ValueError):
    """Two functions of one process want the same name."""


class HasId(Protocol):
    @property
    def id(self) -> str: ...


class Choices(TypedDict, total=False):
    """What can be said about a task beside its arguments. Seconds for timeout; None = the default."""

    id: str
    priority: int | str
    timeout: float | None
    retries: int
    tags: Iterable[str]
    pool: str
    region: str
    dependencies: Iterable[str | HasId]
    resolve: bool


class How(msgspec.Struct, frozen=True):
    """Choices, as they go into a submission."""

    id: str = ""
    priority: int = 5
    dependencies: tuple[str, ...] = ()
    options: Options | None = None

    def but(self, choices: Choices) -> How:
        """These with some changed.

        Raises:
            Invalid: naming every bad choice.
        """
        errors = list(_wrong_types(choices))
        if errors:
            raise Invalid(errors)
        options = self.options or DEFAULTS
        if choices.get("timeout", 0) is None:
            options = msgspec.structs.replace(options, timeout_s=DEFAULTS.timeout_s)
        elif "timeout" in choices:
            options = msgspec.structs.replace(options, timeout_s=float(choices["timeout"] or 0))
        plain: dict[str, Any] = {
            name: choices[name] for name in ("retries", "pool", "region", "resolve") if name in choices
        }
        if "tags" in choices:
            plain["tags"] = tuple(choices["tags"])
        options = msgspec.structs.replace(options, **plain)
        dependencies = self.dependencies
        if "dependencies" in choices:
            dependencies = tuple(d if isinstance(d, str) else d.id for d in choices["dependencies"])
        made = How(
            choices.get("id", self.id),
            priority_of(choices.get("priority", self.priority)),
            dependencies,
            None if options == DEFAULTS else options,
        )
        errors = list(check_task(made.submission("x", b"")))
        if errors:
            raise Invalid(errors)
        return made

    def submission(self, name: str, payload: bytes) -> Submission:
        return Submission(name, payload, self.id, self.priority, self.dependencies, self.options)


_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "id": ((str,), "a string"),
    "priority": ((int, str), "1 to 10, or critical high normal low"),
    "timeout": ((int, float, type(None)), "seconds"),
    "retries": ((int,), "a whole number"),
    "tags": ((list, tuple, set, frozenset), "a list of strings"),
    "pool": ((str,), "a string"),
    "region": ((str,), "a string"),
    "dependencies": ((list, tuple), "a list of ids or handles"),
    "resolve": ((bool,), "True or False"),
}


def _wrong_types(choices: Choices) -> Iterable[FieldError]:
    given: Mapping[str, Any] = choices
    for name, value in given.items():
        types, words = _TYPES.get(name, ((), ""))
        if not types:
            known = ", ".join(_TYPES)
            yield FieldError(name, "unknown", f"There is no such option; known: {known}.")
        elif not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            yield FieldError(name, "type", f"Give {words}, not {type(value).__name__}.")
        elif name in ("tags", "dependencies") and not _are_strings(given[name]):
            yield FieldError(name, "type", f"Give {words}.")


def _are_strings(items: Iterable[Any]) -> bool:
    """Strings, or handles, which have an id."""
    return all(isinstance(getattr(item, "id", item), str) for item in items)


def priority_of(value: int | str) -> int:
    """1 to 10 from a number or a word.

    Raises:
        Invalid: neither. Whether a number is in range is `wire.check`'s affair.
    """
    if isinstance(value, int):
        return value
    known = PRIORITIES.get(value.lower())
    if known is None:
        said = f"{value[:40]!r} is no priority; use 1 to 10, or critical high normal low."
        raise Invalid([FieldError("priority", "priority", said)])
    return known


class Task(Generic[P, CallT, T]):
    """A type of task, with the function that does it or, made by `remote`, without.

    P are the function's parameters, CallT what a plain call returns, T what a task's result is.
    """

    def __init__(self, name: str, function: Callable[P, CallT] | None, how: How) -> None:
        self.name = name
        self.function = function
        self.how = how
        if function is not None:
            update_wrapper(self, function)

    @property
    def lane(self) -> str:
        """`async` tasks share a loop, `sync` ones have a process each."""
        return "async" if inspect.iscoroutinefunction(self.function) else "sync"

    @cached_property
    def signature(self) -> Signature | None:
        return None if self.function is None else Signature(self.function, Context)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> CallT:
        if self.function is None:
            raise TypeError(f"{self.name!r} is known by name only and cannot be called; submit it.")
        return self.function(*args, **kwargs)

    def options(self, /, **choices: Unpack[Choices]) -> Task[P, CallT, T]:
        """A copy of which tasks are submitted with these options; the rest is as it was.

        Raises:
            Invalid: naming every bad option.
        """
        return Task(self.name, self.function, self.how.but(choices))

    def bind(self, /, *args: Any, **kwargs: Any) -> Submission:
        """These arguments, checked and encoded: what `submit_many` takes.

        Raises:
            BadArguments: they do not fit the function; every bad one is named.
        """
        signature = self.signature
        payload = payload_of(args, kwargs) if signature is None else signature.payload(args, kwargs)
        return self.how.submission(self.name, payload)

    async def submit(self, /, *args: Any, **kwargs: Any) -> Handle[T]:
        """Submit through the default client; back when the task is durable.

        Raises:
            BadArguments, Invalid, TaskIdConflict, Overloaded, Unavailable, NoServer.
        """
        home = import_module(".client", __package__)
        handle: Handle[T] = await home.default_client().submit(self, *args, **kwargs)
        return handle

    def submit_sync(self, /, *args: Any, **kwargs: Any) -> SyncHandle[T]:
        """`submit` for code that is not async."""
        home = import_module(".sync", __package__)
        handle: SyncHandle[T] = home.default_client().submit(self, *args, **kwargs)
        return handle

    delay = submit_sync

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class _Decorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Task[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Task[P, T, T]: ...


@overload
def task(function: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, Coroutine[Any, Any, T], T]: ...
@overload
def task(function: Callable[P, T], /) -> Task[P, T, T]: ...
@overload
def task(
    *,
    name: str = ...,
    pool: str = ...,
    priority: int | str = ...,
    timeout: float | None = ...,
    retries: int = ...,
    tags: Iterable[str] = ...,
) -> _Decorator: ...
def task(function: Callable[..., Any] | None = None, /, *, name: str = "", **choices: Any) -> Any:
    """Make a function a type of task, called by its own name unless `name` is given.

    Raises:
        Invalid: naming every bad option.
        DuplicateTask: another function has the name.
        TypeError: what is decorated is no function, or a generator.
    """
    for option in choices:
        if option not in ("pool", "priority", "timeout", "retries", "tags"):
            raise TypeError(
                f"@task has no option {option!r}; it has name pool priority timeout retries tags."
            )

    def decorate(function: Callable[..., Any]) -> Task[..., Any, Any]:
        if not inspect.isroutine(function):
            raise TypeError(f"@task goes on a function, not on {function!r}.")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} yields; a task returns its result.")
        how = How().but(cast(Choices, choices))
        made: Task[..., Any, Any] = Task(name or function.__name__, function, how)
        errors = [error for error in check_task(Submission(made.name)) if error.field == "task_type"]
        if errors:
            raise Invalid(errors)
        _register(made)
        return made

    return decorate if function is None else decorate(function)


def remote(name: str, /, **choices: Unpack[Choices]) -> Task[..., Any, Any]:
    """A task type that is known by name only: its function is in another program.

    Its arguments are not checked here. Keywords become the payload's keys, one positional value the payload.
    """
    made: Task[..., Any, Any] = Task(name, None, How().but(choices))
    errors = list(check_task(Submission(name)))
    if errors:
        raise Invalid(errors)
    return made


def registered() -> Mapping[str, Task[..., Any, Any]]:
    """Every task type that this process has defined, by name."""
    return MappingProxyType(_REGISTRY)


def _register(made: Task[..., Any, Any]) -> None:
    other = _REGISTRY.get(made.name)
    if other is not None and _where(other) != _where(made) and not _typed_in(other):
        raise DuplicateTask(
            f"Two tasks are named {made.name!r}: {' and '.join(map(_where, (other, made)))}. "
            f"Give one another name: @task(name=...)."
        )
    _REGISTRY[made.name] = made


def _where(known: Task[..., Any, Any]) -> str:
    code = inspect.unwrap(known.function).__code__ if known.function else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code else known.name


def _typed_in(known: Task[..., Any, Any]) -> bool:
    """Defined at a prompt or in a notebook, where a function is often defined again."""
    return _where(known).startswith("<")
