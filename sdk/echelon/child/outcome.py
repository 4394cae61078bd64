"""What became of a run, in data: results as JSON, exceptions as type, message and the user's own frames.

Everything here meets objects of the user's that may misbehave: a `__str__` that raises, a result that
contains itself, a message of a gigabyte.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from contextlib import suppress
from types import TracebackType
from typing import Final

from echelon.errors import BadArguments
from echelon.running import Fatal
from echelon.wire.child import ERROR, FATAL, Error
from echelon.wire.names import PAYLOAD_BYTES
from echelon.wire.plain import encode

_OURS: Final = os.path.dirname(__file__) + os.sep
_ASYNCIO: Final = os.path.dirname(asyncio.__file__) + os.sep
_FRAMES: Final = 30
_MESSAGE: Final = 500
_TRACEBACK: Final = 8000


def encoded(result: object) -> tuple[bytes, Error | None]:
    """JSON text of a result, or why there is none."""
    text, errors = encode(result, "result")
    if errors:
        return b"", Error(
            "UnencodableResult", _short(" ".join(f"{e.field}: {e.message}" for e in errors[:3]))
        )
    if len(text) > PAYLOAD_BYTES:
        said = (
            f"The result has {len(text):,} bytes; the limit is {PAYLOAD_BYTES:,}. Store it, return its place."
        )
        return b"", Error("ResultTooLarge", said)
    return text, None


class Misfit(Exception):
    """A run that no retry can mend; the handler was not called. Not the user's: never seen by a handler."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


def raised(error: BaseException) -> tuple[int, Error]:
    """(status, error) of what came out of beginning or running a handler."""
    if isinstance(error, Misfit):
        return FATAL, error.error
    return FATAL if isinstance(error, Fatal) else ERROR, described(error)


def misfit(error: BadArguments) -> Misfit:
    """The payload does not fit the handler."""
    return Misfit(
        Error("BadArguments", _short(" ".join(f"{e.field}: {e.message}" for e in error.errors[:5])))
    )


def no_handler(name: str) -> Error:
    return Error("NoHandler", _short(f"This worker's application has no task {name!r}."))


def overran(timeout_s: float, error: BaseException | None) -> Error:
    """`error`: what came out of the coroutine when it was cancelled; its frames say where it was."""
    where = described(error).traceback if error is not None else ""
    return Error("Timeout", f"The task ran longer than its timeout of {timeout_s:g} s.", where)


def flush_prints() -> None:
    """Before leaving by os._exit. The user may have closed or replaced the streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def described(error: BaseException) -> Error:
    kind = type(error)
    module = getattr(kind, "__module__", "")
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    return Error(_short(name), _message(error), _frames(error))


def _message(error: BaseException) -> str:
    try:
        return _short(str(error))
    except BaseException:  # noqa: BLE001  the user's __str__ may raise anything
        return "<the exception's own text raised another exception>"


def _short(text: str, limit: int = _MESSAGE) -> str:
    """At most `limit` characters, without half surrogates, which no other program could read."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return cut.encode("utf-8", "replace").decode()


def _frames(error: BaseException) -> str:
    try:
        trace = traceback.TracebackException(
            type(error), error, _beyond_ours(error.__traceback__), limit=-_FRAMES, compact=True
        )
        text = "".join(trace.format())
    except BaseException:  # noqa: BLE001  the user's classes may misbehave in any way
        return ""
    if len(text) > _TRACEBACK:
        text = f"{text[: _TRACEBACK // 4]}\n  …\n{text[-_TRACEBACK * 3 // 4 :]}"
    return _short(text, _TRACEBACK + 10)


def _beyond_ours(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames that called the handler."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((_OURS, _ASYNCIO)):
        trace = trace.tb_next
    return trace
