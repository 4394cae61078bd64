"""Python values as JSON text that everybody reads the same, or a list of what cannot be said in it.

msgspec encodes what it can: plain ones, dataclasses, Structs, dates, UUIDs, decimals, enums, bytes (base64).
What would not survive is refused by name and path: NaN and infinities (they would become null), integers
beyond 64 bits, half surrogates, nesting beyond 100, other objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from echelon.wire.api import FieldError
from echelon.wire.codec import MAX_DEPTH, depth, to_json

_LONG: Final = re.compile(rb"\d{19}")
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


def encode(value: Any, at: str = "") -> tuple[bytes, list[FieldError]]:
    """The text, and why it must not be used: empty if it may.

    >>> encode({"a": [1, object()]})[1][0].field
    'a[1]'
    """
    try:
        text = to_json(value)
    except Exception as error:  # noqa: BLE001  encoding calls code of the user's objects
        found = list(_unsayable(value, at, 0))
        return b"", found or [FieldError(at or "value", "unencodable", f"{error}.")]
    if b"null" in text or _LONG.search(text) is not None:
        if errors := list(_unsayable(value, at, 0)):
            return b"", errors
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and depth(text) > MAX_DEPTH:
        return b"", [_too_deep(at)]
    return text, []


def _unsayable(value: Any, at: str, level: int) -> Iterator[FieldError]:
    """Look for what cannot be said, in the containers that JSON has."""
    if level > MAX_DEPTH:
        yield _too_deep(at)
        return
    match value:
        case None | bool():
            return
        case float():
            if not math.isfinite(value):
                yield FieldError(
                    at or "value", "unencodable", f"{value} is no JSON number; use None or a string."
                )
        case int():
            if not _INT_MIN <= value <= _INT_MAX:
                yield FieldError(
                    at or "value", "integer_range", "The integer has more than 64 bits; send a string."
                )
        case Mapping():
            for key, item in value.items():
                where = f"{at}.{key}" if at else str(key)
                yield from _alone(key, where, "a key of type")
                yield from _unsayable(item, where, level + 1)
        case list() | tuple() | set() | frozenset():
            for index, item in enumerate(value):
                yield from _unsayable(item, f"{at}[{index}]", level + 1)
        case _:
            yield from _alone(value, at, "type")


def _alone(value: Any, at: str, what: str) -> Iterator[FieldError]:
    try:
        to_json({value: None} if what != "type" else value)
    except Exception as error:  # noqa: BLE001  as above
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        why = str(error) if isinstance(error, ValueError) else "JSON has no such thing"
        yield FieldError(at or "value", "unencodable", f"Of {what} {kind}: {why}.")


def _too_deep(at: str) -> FieldError:
    return FieldError(at[:80] or "value", "too_deep", f"Nested more than {MAX_DEPTH} deep, or within itself.")
