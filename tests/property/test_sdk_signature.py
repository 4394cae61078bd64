"""What a caller sends is what the handler gets, whatever the signature."""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from echelon import BadArguments, Context
from echelon.signature import Signature
from echelon.wire.plain import encode

HINTS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=10),
    bool: st.booleans(),
    list[int]: st.lists(st.integers(0, 9), max_size=3),
    dict[str, float | None]: st.dictionaries(st.text(max_size=3), st.none() | st.floats(0, 1), max_size=3),
    bytes: st.binary(max_size=5),
    Any: st.none() | st.integers(0, 9) | st.text(max_size=3),
}
P = inspect.Parameter
KINDS = (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD, P.KEYWORD_ONLY)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Signature, tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """A signature, arguments that fit it, and what the handler's parameters must be."""
    count = draw(st.integers(0, 5))
    kinds = sorted(draw(st.sampled_from(KINDS)) for _ in range(count))
    context_at = draw(st.none() | st.integers(0, count))
    parameters, args, kwargs, expected = [], [], {}, {}
    defaults = by_name = False
    for number, kind in enumerate(kinds):
        name = f"p{number}"
        hint = draw(st.sampled_from(list(HINTS)))
        positional = kind != P.KEYWORD_ONLY
        default: Any = P.empty
        if (defaults and positional) or draw(st.booleans()):
            default, defaults = draw(HINTS[hint]), defaults or positional
        parameters.append(P(name, kind, default=default, annotation=hint))
        if default is not P.empty and draw(st.booleans()):
            by_name = True
            expected[name] = default
            continue
        expected[name] = value = draw(HINTS[hint])
        by_name = by_name or not positional or draw(st.booleans())
        if by_name:
            kwargs[name] = value
        else:
            args.append(value)
    if context_at is not None:
        kind = kinds[context_at] if context_at < count else P.KEYWORD_ONLY
        before = [p for p in parameters[:context_at] if p.default is not P.empty]
        default = None if before and kind != P.KEYWORD_ONLY else P.empty
        parameters.insert(context_at, P("c", kind, default=default, annotation=Context))

    def handler() -> None: ...

    handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handler.__annotations__ = {p.name: p.annotation for p in parameters}
    return Signature(handler, Context), tuple(args), kwargs, expected


@given(calls())
def test_arguments_arrive_as_they_were_sent(
    call: tuple[Signature, tuple[Any, ...], dict[str, Any], dict[str, Any]],
) -> None:
    signature, args, kwargs, expected = call
    positional, keywords = signature.arguments(signature.payload(args, kwargs))
    assert dict(zip(signature.positional, positional, strict=True)) | keywords == expected


@given(
    calls(), st.binary(max_size=12) | st.sampled_from([b"[1]", b'{"p0": []}', b'{"x":', b"nul", b'"a"', b"7"])
)
def test_no_payload_raises_anything_but_bad_arguments(
    call: tuple[Signature, tuple[Any, ...], dict[str, Any], dict[str, Any]], payload: bytes
) -> None:
    signature = call[0]
    try:
        signature.arguments(payload)
    except BadArguments as error:
        assert error.errors


keys = st.text() | st.integers() | st.none()
anything = st.recursive(
    st.none() | st.floats() | st.integers() | st.text() | st.binary() | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner),
    max_leaves=10,
)


@given(anything)
def test_any_value_is_encoded_or_named(value: Any) -> None:
    text, errors = encode(value)
    assert bool(text) != bool(errors)
    assert all(error.field for error in errors)
