"""Query parameters: what lists take, and a 422 that names what they do not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import Request

from echelon.errors import Invalid
from echelon.wire.api import FieldError
from echelon.wire.names import id_of, ref_of
from echelon_web.readmodel.rows import STATUSES

DEFAULT: Final = 50
CAP: Final = 1000
MAX_OFFSET: Final = 2**40
_WORDS: Final = {
    **{word: word for word in STATUSES},
    "in_progress": "running",
    "success": "completed",
    "canceled": "cancelled",
}


class BadParameters(Invalid):
    """The query of a read; nothing was submitted."""

    title = "Invalid parameters"


class Page(msgspec.Struct):
    status: str | None
    limit: int
    offset: int
    capped: bool  # more was asked for than one answer holds
    upto: int | None  # from a cursor: none newer than this ref


def parameters(request: Request[Any, Any, Any], known: Iterable[str]) -> dict[str, str]:
    """The query as a dict.

    Raises:
        Invalid: a parameter that is unknown or stands twice.
    """
    found: dict[str, str] = {}
    errors = []
    known = list(known)
    for name, value in request.query_params.multi_items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            mend = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known) or 'none'}."
            errors.append(FieldError(name[:80], "unknown_parameter", f"There is no such parameter. {mend}"))
        elif name in found:
            errors.append(FieldError(name, "repeated", "Give it once."))
        found[name] = value
    if errors:
        raise BadParameters(errors)
    return found


def page(request: Request[Any, Any, Any]) -> Page:
    """`status`, `limit`, and `offset` or `cursor` of a list of tasks.

    Raises:
        Invalid: naming every bad parameter.
    """
    given = parameters(request, ("status", "limit", "offset", "cursor"))
    errors: list[FieldError] = []
    status = None
    if "status" in given:
        status = _WORDS.get(given["status"].lower())
        if status is None:
            errors.append(FieldError("status", "status", f"Use one of {', '.join(STATUSES)}."))
    limit = _whole(given, "limit", DEFAULT, 1, errors)
    offset = _whole(given, "offset", 0, 0, errors)
    upto = None
    if "cursor" in given:
        upto = ref_of(f"t-{given['cursor']}")
        if upto is None:
            errors.append(FieldError("cursor", "cursor", "Send back `next` of an earlier answer."))
        if offset:
            errors.append(FieldError("offset", "conflict", "Give offset or cursor."))
    if errors:
        raise BadParameters(errors)
    return Page(status, min(limit, CAP), min(offset, MAX_OFFSET), limit > CAP, upto)


def cursor(ref: int) -> str:
    """Of a list that goes on below this task."""
    return id_of(ref - 1).removeprefix("t-")


def _whole(given: dict[str, str], name: str, default: int, least: int, errors: list[FieldError]) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) < least:
        errors.append(FieldError(name, name, f"Give a whole number of at least {least}."))
        return default
    return int(text)
