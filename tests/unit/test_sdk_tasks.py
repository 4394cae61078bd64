"""@task, options and arguments: what a caller may write, and what it says to a wrong line."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from echelon import BadArguments, Context, Invalid, remote, task
from echelon.signature import Signature
from echelon.tasks import DuplicateTask, Task, registered
from echelon.wire.api import DEFAULTS, Options
from echelon.wire.codec import from_json


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Named(typing.NamedTuple):
    id: str


class Order(msgspec.Struct):
    item: str
    amount: int


@task
async def sdk_add(a: int, b: float = 0.5) -> float:
    """Adds."""
    return a + b


@task(name="sdk.many", pool="gpu", priority="High", timeout=5, retries=0, tags=["x", "y"])
def sdk_many(first, /, second: list[int], *, third: str = "t", ctx, **rest: int) -> tuple[Any, ...]:  # type: ignore[no-untyped-def]
    return first, second, third, ctx, rest


def errors_of(caught: pytest.ExceptionInfo[Any]) -> dict[str, str]:
    return {error.field: error.code for error in caught.value.errors}


def payload(function: Any, *args: Any, **kwargs: Any) -> Any:
    return from_json(Signature(function, Context).payload(args, kwargs) or b"null")


# ------------------------------------------------------------------------------------- decorating
async def test_a_task_is_still_its_function() -> None:
    assert await sdk_add(2, 3) == 5
    assert sdk_add.__name__ == "sdk_add"
    assert sdk_add.__doc__ == "Adds."
    assert sdk_many(1, [2], ctx=None, z=3) == (1, [2], "t", None, {"z": 3})


def test_names_lanes_and_options() -> None:
    assert (sdk_add.name, sdk_add.lane, sdk_add.how.options) == ("sdk_add", "async", None)
    assert (sdk_many.name, sdk_many.lane, sdk_many.how.priority) == ("sdk.many", "sync", 7)
    assert sdk_many.how.options == Options(timeout_s=5.0, retries=0, pool="gpu", tags=("x", "y"))
    assert registered()["sdk.many"] is sdk_many


def test_a_name_belongs_to_one_function() -> None:
    with pytest.raises(DuplicateTask, match=r"Two tasks are named 'sdk_add': .*test_sdk_tasks\.py"):

        @task(name="sdk_add")
        def other() -> None: ...

    assert registered()["sdk_add"] is sdk_add


def test_the_same_function_may_be_defined_again() -> None:
    """A module that is loaded twice, as __main__ and by its name."""

    def define() -> Task[..., Any, Any]:
        @task(name="sdk.again")
        def again() -> None: ...

        return again

    define()
    newest = define()
    assert registered()["sdk.again"] is newest


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"priority": 11}, "priority"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 2.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"pool": "a.b"}, "pool"),
        ({"tags": "red"}, "tags"),
        ({"tags": [1]}, "tags"),
    ],
)
def test_bad_options_are_named(choices: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        task(**choices)(lambda: None)
    assert list(errors_of(caught)) == [field]
    with pytest.raises(Invalid):
        sdk_add.options(**choices)


def test_what_is_no_handler_is_refused() -> None:
    def yields() -> typing.Iterator[int]:
        yield 1

    async def yields_too() -> typing.AsyncIterator[int]:
        yield 1

    for wrong in (yields, yields_too, 5, Point):
        with pytest.raises(TypeError):
            task(wrong)
    with pytest.raises(Invalid, match="task_type"):
        task(name="no spaces")(lambda: None)
    with pytest.raises(TypeError, match="no option 'colour'"):
        task(colour="red")  # type: ignore[call-overload]


# ---------------------------------------------------------------------------------------- options
def test_options_make_a_copy() -> None:
    urgent = sdk_add.options(id="mine", priority=10, timeout=None, dependencies=["a", Named("b-1")])
    made = urgent.bind(1)
    assert (made.id, made.priority, made.dependencies, made.options) == ("mine", 10, ("a", "b-1"), None)
    assert sdk_add.bind(1).id == ""
    again = urgent.options(retries=1)
    assert again.bind(1).options == msgspec.structs.replace(DEFAULTS, retries=1)
    assert again.bind(1).id == "mine"


def test_several_bad_options_are_all_named() -> None:
    with pytest.raises(Invalid) as caught:
        sdk_add.options(id="t-0000000000000", region="_x", dependencies=["ok", "not an id"])
    assert errors_of(caught) == {
        "task_id": "reserved_id",
        "region": "region",
        "dependencies[1]": "task_id",
    }
    with pytest.raises(Invalid, match="no such option; known: id,"):
        sdk_add.options(prio=1)  # type: ignore[call-arg]


def test_a_task_known_by_name_takes_any_arguments() -> None:
    by_name = remote("DATA_PROCESSING", priority="low")
    assert by_name.bind("sample data").payload == b'"sample data"'
    assert from_json(by_name.bind(a=1, self=2).payload) == {"a": 1, "self": 2}
    assert (by_name.bind().payload, by_name.bind().priority) == (b"", 2)
    for args, kwargs in (((1, 2), {}), ((1,), {"a": 1}), ((object(),), {}), ((), {"a": float("inf")})):
        with pytest.raises(BadArguments):
            by_name.bind(*args, **kwargs)
    with pytest.raises(TypeError, match="known by name only"):
        by_name(1)
    with pytest.raises(Invalid):
        remote("no spaces")


# -------------------------------------------------------------------------------------- arguments
def test_positional_arguments_are_bound_to_names() -> None:
    assert from_json(sdk_add.bind(2, 3).payload) == {"a": 2, "b": 3}
    assert from_json(sdk_add.bind(2).payload) == {"a": 2}
    assert from_json(sdk_many.bind("p", [1], z=5).payload) == {"first": "p", "second": [1], "z": 5}


@pytest.mark.parametrize(
    ("args", "kwargs", "errors"),
    [
        ((), {}, {"a": "missing"}),
        (("x", "y"), {}, {"a": "type", "b": "type"}),
        ((1, 2, 3), {}, {"payload": "arguments"}),
        ((1,), {"a": 1}, {"a": "twice"}),
        ((1,), {"c": 1}, {"c": "unknown"}),
        ((True,), {}, {"a": "type"}),
        ((2**64,), {}, {"a": "integer_range"}),
        ((1, float("nan")), {}, {"b": "unencodable"}),
        ((object(),), {}, {"a": "unencodable"}),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], errors: dict[str, str]
) -> None:
    with pytest.raises(BadArguments) as caught:
        sdk_add.bind(*args, **kwargs)
    assert errors_of(caught) == errors


def test_errors_inside_values_have_their_path() -> None:
    def nested(rows: list[dict[str, int]]) -> None: ...

    with pytest.raises(BadArguments) as caught:
        payload(nested, [{"a": 1}, {"b": "x"}])
    assert errors_of(caught) == {"rows[1][...]": "type"}


def test_the_context_cannot_be_given() -> None:
    with pytest.raises(BadArguments) as caught:
        sdk_many.bind(1, [2], ctx=5)
    assert errors_of(caught) == {"ctx": "context"}


def test_self_ctx_and_task_id_are_ordinary_names() -> None:
    def takes(**kwargs: Any) -> None: ...

    def typed(ctx: int, task_id: str) -> None: ...

    given = {"self": 1, "ctx": 2, "task_id": 3, "function": 4, "args": 5}
    assert from_json(task(name="sdk.takes")(takes).bind(**given).payload) == given
    assert payload(typed, 1, "x") == {"ctx": 1, "task_id": "x"}


@pytest.mark.parametrize("place", ["first", "middle", "keyword", "optional", "text", "annotated"])
def test_the_context_is_found_wherever_it_stands(place: str) -> None:
    def first(c: Context, x: int, y: int = 1) -> None: ...
    def middle(x: int, c: Context, y: int = 1) -> None: ...
    def keyword(x: int, y: int = 1, *, c: Context) -> None: ...
    def optional(x: int, y: int = 1, c: Context | None = None) -> None: ...
    def text(x: int, c: "Context", y: int = 1) -> None: ...  # noqa: UP037
    def annotated(x: int, c: typing.Annotated[Context, "mine"], y: int = 1) -> None: ...

    signature = Signature(locals()[place], Context)
    assert signature.context is not None
    assert signature.context.name == "c"
    assert list(signature.fields) == ["x", "y"]
    assert signature.arguments(signature.payload((5,), {})) == ((5, 1), {})


def test_rich_types_go_through_json_and_come_back() -> None:
    def rich(
        when: datetime.date, colour: Colour, point: Point, order: Order, raw: bytes, tree: dict[str, set[int]]
    ) -> None: ...

    signature = Signature(rich, Context)
    given = (datetime.date(2026, 1, 2), Colour.RED, Point(1), Order("a", 2), b"\x00", {"k": {1, 2}})
    assert signature.arguments(signature.payload(given, {})) == (given, {})
    with pytest.raises(BadArguments) as caught:
        signature.payload((*given[:3], {"item": "a"}, *given[4:]), {})
    assert errors_of(caught) == {"order": "type"}


def test_hints_that_cannot_be_checked_are_let_through() -> None:
    class Strange: ...

    def strange(a: Strange, b: list[Path], c: "nowhere", d: typing.Callable[[], int]) -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037

    assert payload(strange, 1, ["/x"], {"z": 1}, None) == {"a": 1, "b": ["/x"], "c": {"z": 1}, "d": None}


def test_defaults_are_pythons_own() -> None:
    marker: list[int] = []

    def defaults(a: int = 1, b: Any = marker, c: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    (a, b, c), _ = Signature(defaults, Context).arguments(b"")
    assert (a, c) == (1, None)
    assert b is marker


def test_wrapped_functions_keep_their_signature() -> None:
    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    @wrap
    def wrapped(a: int) -> int:
        return a

    with pytest.raises(BadArguments):
        payload(wrapped, "x")
    assert payload(wrapped, 1) == {"a": 1}


def test_star_args_take_one_value() -> None:
    def star(*items: int) -> None: ...

    signature = Signature(star, Context)
    assert signature.arguments(signature.payload((5,), {})) == ((5,), {})
    with pytest.raises(BadArguments):
        signature.payload((5, 6), {})


def test_nesting_has_a_limit() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    with pytest.raises(BadArguments, match="100 deep"):
        remote("x").bind(deep)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(BadArguments, match="within itself"):
        remote("x").bind(loop)
