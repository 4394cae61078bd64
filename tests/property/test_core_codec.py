"""What users say as JSON: read as everybody reads it, or refused with a sentence. Never slow, never deep."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.wire.codec import MAX_DEPTH, BadJson, depth, from_json, strict_json, to_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
hostile = st.text(alphabet='[]{}",:\\ue0159.-+nulltrfase \n', max_size=60).map(str.encode)


def nesting(value: Any) -> int:
    match value:
        case list():
            return 1 + max(map(nesting, value), default=0)
        case dict():
            return 1 + max(map(nesting, value.values()), default=0)
        case _:
            return 0


@given(values)
def test_ordinary_json_is_read_as_msgspec_and_the_standard_library_read_it(value: Any) -> None:
    text = to_json(value)
    assert strict_json(text) == from_json(text) == json.loads(text)


@given(values)
def test_depth_is_counted_without_decoding(value: Any) -> None:
    assert depth(json.dumps(value).encode()) == nesting(value)


@given(st.binary(max_size=200) | hostile)
def test_hostile_bytes_are_refused_in_words_or_mean_what_others_think(text: bytes) -> None:
    """Whatever passes here, msgspec reads too: a child never meets a payload that it cannot decode."""
    try:
        value = strict_json(text)
    except BadJson as error:
        assert error.code in ("malformed", "integer_range") and str(error)
    else:
        assert msgspec.json.decode(text) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"NaN", "malformed"),
        (b'{"a": -Infinity}', "malformed"),
        (b"1e999", "malformed"),
        (b'{"a":1,"a":2}', "malformed"),
        (b'[{"x":{"k":1,"k":1}}]', "malformed"),
        (b"18446744073709551616", "integer_range"),
        (b"-9223372036854775809", "integer_range"),
        (b"9" * 5000, "integer_range"),
        (b'"\\ud800"', "malformed"),
        (b'{"\\udfff":1}', "malformed"),
        (b'"\xff"', "malformed"),
        (b'\xef\xbb\xbf"bom"', "malformed"),
        ('"utf-16"'.encode("utf-16"), "malformed"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "malformed"),
        (b'{"a":' * 50_000, "malformed"),
        (b"'single'", "malformed"),
        (b"[1,]", "malformed"),
        (b'"a\nb"', "malformed"),
    ],
)
def test_what_other_readers_would_read_otherwise_is_refused(text: bytes, code: str) -> None:
    with pytest.raises(BadJson) as caught:
        strict_json(text)
    assert caught.value.code == code


@pytest.mark.parametrize("text", [b"18446744073709551615", b"-9223372036854775808", b"[" * 100 + b"]" * 100])
def test_the_limits_themselves_are_allowed(text: bytes) -> None:
    strict_json(text)


def test_brackets_inside_strings_are_no_depth() -> None:
    assert strict_json(b'"' + b"[" * 500 + b'"') == "[" * 500
    assert depth(b'["\\"[[", "]"]') == 1


@pytest.mark.parametrize("filling", [b'\\"', b"\\", b'"', b"a", b'"[', b"\\\\"])
def test_a_megabyte_of_malice_costs_no_more_than_a_megabyte(filling: bytes) -> None:
    """A quote that never closes must not be tried again from each of its letters."""
    text = b"[" * (MAX_DEPTH + 1) + b'"' + filling * (1_000_000 // len(filling))
    began = time.process_time()
    with pytest.raises(BadJson):
        strict_json(text)
    assert time.process_time() - began < 2
