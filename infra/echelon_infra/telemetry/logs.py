"""Structured logs: one JSON object a line, on stderr, with the fields by which people search.

    log = logs.get("master")
    log.info("leading", epoch=7)        {"at":"…Z","level":"info","tier":"master","event":"leading","epoch":7}

Fields that name things are `task`, `region`, `worker`; a process binds its own once, with `configure`. Events
are short and constant, what varies is a field, so that lines can be counted. No line a task: what happens to
one task stands in the logs of JetStream, not here.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO, cast

import msgspec

_RICH = sys.modules.get("rich")
if _RICH is None:
    # structlog's console renderer imports rich where it is installed: 120 ms that no server needs.
    sys.modules["rich"] = cast(Any, None)
import structlog  # noqa: E402

if _RICH is None:
    del sys.modules["rich"]

Event = MutableMapping[str, Any]

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


def get(tier: str) -> structlog.typing.FilteringBoundLogger:
    """A logger; `tier` says which part of the program speaks. Cheap, and may be called before `configure`."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(tier=tier))


def configure(
    level: str = "info",
    form: str = "json",
    fields: Mapping[str, str] | None = None,
    *,
    stream: TextIO | None = None,
) -> None:
    """Set up this process's logs, those of libraries and uncaught exceptions included.

    `level` is a name as in the settings, `form` is json or text; `fields` are on every line.
    """
    fields = fields or {}
    stream = sys.stderr if stream is None else stream
    render = _json if form == "json" else _text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _stamp,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**fields)
    _adopt_stdlib(level, stream, render, fields)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def _stamp(logger: object, method: str, event: Event) -> Event:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"at": at, "level": "warning" if method == "warn" else method, "tier": event.pop("tier", "")}
    if method == "exception":
        head["level"] = "error"
    return {**head, "event": event.pop("event", ""), **event}


def _json(logger: object, method: str, event: Event) -> str:
    return _encode(event).decode()


def _text(logger: object, method: str, event: Event) -> str:
    rest = dict(event)
    head = f"{rest.pop('at')[11:23]} {rest.pop('level'):<8} {rest.pop('tier'):<9} {rest.pop('event')}"
    trace = rest.pop("exception", "")
    line = " ".join([head, *(f"{key}={value}" for key, value in rest.items())])
    return f"{line}\n{trace}" if trace else line


class _Adopted(logging.Handler):
    """Gives what libraries log through `logging` the same form."""

    def __init__(self, stream: TextIO, render: Callable[[object, str, Event], str], fields: Event) -> None:
        super().__init__()
        self._stream, self._render, self._fields = stream, render, fields

    def emit(self, record: logging.LogRecord) -> None:
        event: Event = {"tier": record.name, "event": record.getMessage(), **self._fields}
        if record.exc_info and record.exc_info[0] is not None:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        stamped = _stamp(None, record.levelname.lower(), event)
        self._stream.write(self._render(None, "", stamped) + "\n")
        self._stream.flush()


def _adopt_stdlib(
    level: str, stream: TextIO, render: Callable[[object, str, Event], str], fields: Mapping[str, str]
) -> None:
    """Libraries speak from warnings on, unless we are at debug: their info is about their own affairs."""
    root = logging.getLogger()
    root.handlers[:] = [_Adopted(stream, render, dict(fields))]
    root.setLevel(_LEVELS[level] if level == "debug" else max(_LEVELS[level], logging.WARNING))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get("process").critical("uncaught", exc_info=(kind, error, trace))
