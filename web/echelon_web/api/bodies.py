"""What users send, field by field: from JSON to submissions, or every bad field with its mend.

A payload is kept as the text that was sent, less the white space, so that the same task sent twice is the
same bytes; nothing here decodes it for use.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from echelon.errors import Invalid, Malformed, NotYet
from echelon.wire.api import DEFAULTS, Backoff, FieldError, Options, Submission
from echelon.wire.check import check_group
from echelon.wire.codec import BadJson, from_json, strict_json
from echelon.wire.names import PRIORITIES

TYPE_NAMES: Final = ("task_type", "taskType", "name")
FIELDS: Final = frozenset(
    {*TYPE_NAMES, "task_id", "payload", "priority", "dependencies", "timeout", "region", "pool", "tags",
     "retries", "backoff", "resolve"}
)  # fmt: skip
NOT_YET: Final = frozenset(
    {"schedule", "delay", "eta", "expires", "deadline", "unique", "exclusive", "later", "later_s", "labels",
     "dependency_policy", "on_dependency_failure", "tenant", "requires", "idempotency_key", "time_zone"}
)  # fmt: skip
_BACKOFF: Final = {name: name for name in Backoff.__struct_fields__}
_MISSING: Final = object()

_raw_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_list: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


class Given(msgspec.Struct):
    """What one request submits. `single`: it was an object, so its task is the answer."""

    tasks: list[Submission]
    single: bool


def decode(body: bytes) -> Any:
    """A body as Python values.

    Raises:
        Malformed: no JSON that Echelon accepts.
        Invalid: an integer of more than 64 bits.
    """
    try:
        value = strict_json(body)
        from_json(body)  # what Python reads as infinity is out of range for everybody else
    except BadJson as error:
        found = [FieldError("body", error.code, str(error))]
        raise (Malformed(found) if error.code == "malformed" else Invalid(found)) from None
    except msgspec.DecodeError as error:
        raise Malformed([FieldError("body", "malformed", f"{error}.")]) from None
    return value


def submissions(body: bytes, *, timeout_s: float = DEFAULTS.timeout_s) -> Given:
    """The tasks of `POST /api/tasks`. `timeout_s` is the default.

    Raises:
        Malformed, Invalid, NotYet: naming every bad field.
    """
    value = decode(body)
    errors: list[FieldError] = []
    match value:
        case {"tasks": list(items), **rest}:
            errors += [_unknown(str(name), ("tasks",)) for name in rest]
            raws: Any = _raw_list(_raw_object(body)["tasks"]) if _objects(items, errors) else []
            path = "tasks[{}]."
        case dict():
            items, raws, path = [value], [_raw_object(body)], ""
        case list(items):
            raws = _raw_list(body) if _objects(items, errors) else []
            path = "tasks[{}]."
        case _:
            raise Invalid([FieldError("body", "type", "Send an object, or an array of them.")])
    tasks = [
        _submission(item, raw, path.format(index), timeout_s, errors)
        for index, (item, raw) in enumerate(zip(items, raws, strict=False))
    ]
    bad = {error.field for error in errors}
    if len(raws) == len(items):
        errors += [error for error in check_group(tasks, path) if error.field not in bad]
    if errors:
        raise NotYet(errors) if all(error.code == "not_yet" for error in errors) else Invalid(errors)
    return Given(tasks, single=path == "")


def act(body: bytes) -> str:
    """The reason in the body of a cancel or a retry, which may be empty.

    Raises:
        Malformed, Invalid: naming every bad field.
    """
    value = decode(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise Invalid([FieldError("body", "type", 'Send nothing, or {"reason": "…"}.')])
    errors = [_unknown(name, ("reason",)) for name in value if name != "reason"]
    reason = value.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > 500:
        errors.append(FieldError("reason", "type", "Give text of at most 500 characters."))
    if errors:
        raise Invalid(errors)
    return str(reason)


def _objects(items: list[Any], errors: list[FieldError]) -> bool:
    wrong = [index for index, item in enumerate(items) if not isinstance(item, dict)]
    errors += [FieldError(f"tasks[{index}]", "type", "A task is an object.") for index in wrong[:100]]
    return not wrong


class _Reader:
    """Takes fields out of one task's object and remembers what was wrong with them."""

    def __init__(self, value: Mapping[str, Any], at: str, errors: list[FieldError]) -> None:
        self.value, self.at, self.errors = value, at, errors

    def wrong(self, field: str, message: str, code: str = "type") -> None:
        self.errors.append(FieldError(f"{self.at}{field}", code, message))

    def text(self, field: str, default: str, what: str) -> str:
        value = self.value.get(field)
        if value is None:
            return default
        if not isinstance(value, str):
            self.wrong(field, f"Give {what} as a string.")
            return default
        return value

    def number(self, field: str, default: float, what: str) -> float:
        value = self.value.get(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(field, f"Give {what}.")
            return default
        return value

    def whole(self, field: str, default: int, what: str) -> int:
        value = self.number(field, default, what)
        if value != int(value):
            self.wrong(field, f"Give {what}.")
            return default
        return int(value)

    def texts(self, field: str, what: str) -> tuple[str, ...]:
        value = self.value.get(field)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.wrong(field, f"Give an array of {what}.")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.wrong(f"{field}[{index}]", f"Give {what} as strings.")
                return ()
        return tuple(value)


def _submission(
    value: Mapping[str, Any],
    raw: Mapping[str, msgspec.Raw],
    at: str,
    timeout_s: float,
    errors: list[FieldError],
) -> Submission:
    """Wrong fields go into `errors` and keep their default here."""
    fields = _Reader(value, at, errors)
    for name in value:
        if name in NOT_YET:
            fields.wrong(name, "A later version brings this; leave it out.", "not_yet")
        elif name not in FIELDS:
            errors.append(_unknown(name, FIELDS | NOT_YET, at))
    given = [name for name in TYPE_NAMES if name in value]
    kind = fields.text(given[0], "", "the task type") if given else ""
    if not given:
        fields.wrong("task_type", "Say which task to run.", "missing")
    for other in given[1:]:
        if value[other] != value[given[0]]:
            fields.wrong(other, f"Says something else than {given[0]}; give one of them.", "conflict")
    payload = raw.get("payload")
    text = b"" if payload is None else bytes(payload)
    resolve = value.get("resolve")
    if resolve is not None and not isinstance(resolve, bool):
        fields.wrong("resolve", "Give true or false.")
        resolve = None
    options = Options(
        timeout_s=float(fields.number("timeout", timeout_s, "seconds")),
        retries=fields.whole("retries", DEFAULTS.retries, "a whole number"),
        region=fields.text("region", "", "a region"),
        pool=fields.text("pool", DEFAULTS.pool, "a pool"),
        tags=fields.texts("tags", "tags"),
        backoff=_backoff(fields),
        resolve=DEFAULTS.resolve if resolve is None else resolve,
    )
    return Submission(
        type=kind,
        payload=b"" if text.strip() in (b"", b"null") else msgspec.json.format(text, indent=-1),
        id=fields.text("task_id", "", "the id"),
        priority=_priority(fields),
        dependencies=fields.texts("dependencies", "task ids"),
        options=None if options == DEFAULTS else options,
    )


def _priority(fields: _Reader) -> int:
    value = fields.value.get("priority")
    if isinstance(value, str):
        if (found := PRIORITIES.get(value.lower())) is not None:
            return found
        fields.wrong("priority", f"{value[:40]!r} is no priority; use 1 to 10, or critical high normal low.")
        return 5
    return fields.whole("priority", 5, "a whole number from 1 to 10, or critical high normal low")


def _backoff(fields: _Reader) -> Backoff:
    value = fields.value.get("backoff")
    if value is None:
        return DEFAULTS.backoff
    if not isinstance(value, dict):
        fields.wrong("backoff", "Give an object with some of kind, base_s, factor, cap_s, jitter_s.")
        return DEFAULTS.backoff
    fields.errors.extend(
        _unknown(name, _BACKOFF, f"{fields.at}backoff.") for name in value if name not in _BACKOFF
    )
    part = _Reader(value, f"{fields.at}backoff.", fields.errors)
    usual = DEFAULTS.backoff
    seconds = {
        name: float(part.number(name, getattr(usual, name), "a number"))
        for name in ("base_s", "factor", "cap_s", "jitter_s")
    }
    return Backoff(part.text("kind", usual.kind, "the kind"), **seconds)


def _unknown(name: str, known: Iterable[str], at: str = "") -> FieldError:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    mend = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(sorted(known))}."
    return FieldError(f"{at}{name[:80]}", "unknown_field", f"There is no such field. {mend}")
