"""msgpack for what Echelon says to itself, JSON with limits for what users say to it.

A payload is kept as the JSON text that the user sent: nothing between submission and handler decodes it.
Limits: NaN and infinities, duplicate keys, nesting beyond 100, lone surrogates and integers beyond 64 bits
are refused, for they do not survive other people's JSON readers.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

import msgspec

MAX_DEPTH: Final = 100
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1

# Possessive, and the closing quote may be missing: a string that never ends costs one look, not one a letter.
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{}]', re.DOTALL)

pack: Final = msgspec.msgpack.Encoder().encode
to_json: Final = msgspec.json.Encoder().encode
from_json: Final = msgspec.json.Decoder().decode


class BadJson(ValueError):
    """The text is no JSON that Echelon accepts. `code` is `malformed` or `integer_range`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _constant(name: str) -> NoReturn:
    raise BadJson("malformed", f"{name} is no JSON number; use null or a string.")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson("malformed", f"The key {key[:80]!r} appears twice in one object.")
            seen.add(key)
    return made


def _int(text: str) -> int:
    if len(text) > 20 or not _INT_MIN <= (value := int(text)) <= _INT_MAX:
        raise BadJson("integer_range", f"The integer {text[:40]} has more than 64 bits; send it as a string.")
    return value


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise BadJson("malformed", f"The number {text[:40]} is beyond a double; send it as a string.")
    return value


def strict_json(text: bytes) -> Any:
    """Decode and check a user's JSON.

    Raises:
        BadJson: with a sentence that says what is wrong and where it helps, how to mend it.
    """
    opened = text.count(b"[") + text.count(b"{")
    if opened > MAX_DEPTH and (deep := depth(text)) > MAX_DEPTH:
        raise BadJson("malformed", f"The JSON is nested {deep} deep; the limit is {MAX_DEPTH}.")
    try:
        value = json.loads(
            text.decode(),
            parse_constant=_constant,
            object_pairs_hook=_pairs,
            parse_int=_int,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise BadJson("malformed", f"The text is not UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        raise BadJson("malformed", f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    if b"\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise BadJson("malformed", "A string holds half of a surrogate pair.") from None
    return value


def depth(text: bytes) -> int:
    """How deep arrays and objects nest, without decoding: what is inside strings does not count.

    >>> depth(b'{"a":[1,"[["]}')
    2
    """
    deepest = now = 0
    for found in _STRUCTURE.finditer(text):
        first = found.group()[0]
        if first in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif first in b"]}":
            now -= 1
    return deepest
