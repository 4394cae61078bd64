"""What a handler takes: arguments become a JSON payload, a payload becomes arguments, both checked.

A payload object becomes keyword arguments; any other value one positional argument; absent or null, none.
The parameters of a function become the fields of a msgspec Struct, so that one C call decodes the payload,
checks it against the hints (strict about types, lenient about int for float) and fills in the defaults.
The client decodes what it encoded in the same way before it sends: one truth on both sides.

A hint that msgspec cannot check (a class of the user's, a Path) is not checked: the handler gets plain JSON.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Final

import msgspec

from echelon.errors import BadArguments
from echelon.wire.api import FieldError
from echelon.wire.codec import from_json, to_json
from echelon.wire.plain import encode

_P: Final = inspect.Parameter
_NONE: Final = b"null"


class ContextParameter(msgspec.Struct, frozen=True):
    """Where the context goes: `place` among the positional ones, or None for a keyword."""

    name: str
    place: int | None


class Signature:
    """Parameters of `function`; `context` is the class whose annotation asks for the run's context."""

    def __init__(self, function: Callable[..., Any], context: type) -> None:
        self._function = function
        self._context_class = context
        self._parameters = inspect.signature(function).parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        """Resolved late, when what they name is defined; those that cannot be resolved are left out."""
        function = inspect.unwrap(self._function)
        try:
            return typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError):
            pass
        hints: dict[str, Any] = {}
        for name, hint in getattr(function, "__annotations__", {}).items():
            alone = types.SimpleNamespace(__annotations__={name: hint})
            try:
                hints |= typing.get_type_hints(
                    alone, getattr(function, "__globals__", {}), include_extras=True
                )
            except (NameError, TypeError, AttributeError):
                continue
        return hints

    @cached_property
    def context(self) -> ContextParameter | None:
        """The parameter annotated with the class, or an unannotated one named ctx."""
        place = 0
        for name, parameter in self._parameters.items():
            positional = parameter.kind in (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)
            hint = self._hints.get(name, parameter.annotation)
            bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
            wanted = bare is self._context_class or self._context_class in typing.get_args(bare)
            unannotated = parameter.annotation is _P.empty and name == "ctx"
            if (wanted or unannotated) and parameter.kind not in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD):
                return ContextParameter(name, place if positional else None)
            place += positional
        return None

    def _of_kind(self, *kinds: Any) -> list[inspect.Parameter]:
        taken = self.context.name if self.context else None
        return [p for p in self._parameters.values() if p.kind in kinds and p.name != taken]

    @cached_property
    def positional(self) -> tuple[str, ...]:
        return tuple(p.name for p in self._of_kind(_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD))

    @cached_property
    def _many(self) -> bool:
        return bool(self._of_kind(_P.VAR_POSITIONAL))

    @cached_property
    def _extras(self) -> str | None:
        """The name of `**kwargs`, if there is one."""
        return next((p.name for p in self._of_kind(_P.VAR_KEYWORD)), None)

    @cached_property
    def fields(self) -> dict[str, tuple[Any, inspect.Parameter]]:
        """Name -> (type to check against, parameter), positional ones first."""
        ordered = self._of_kind(_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD) + self._of_kind(_P.KEYWORD_ONLY)
        return {p.name: (checkable(self._hints.get(p.name, Any)), p) for p in ordered}

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        struct = msgspec.defstruct(
            "Arguments",
            [_field(name, hint, parameter) for name, (hint, parameter) in self.fields.items()],
            forbid_unknown_fields=self._extras is None,
            kw_only=True,
            gc=False,
        )
        return msgspec.json.Decoder(struct).decode

    def arguments(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What to call the function with; the context is still to be put in.

        Raises:
            BadArguments: the payload does not fit; every bad field is named.
        """
        first = payload.lstrip()[:1]
        if first != b"{":
            if not first or payload.strip() == _NONE:
                payload = b"{}"
            elif not self.positional:
                return self._alone(payload)
            else:
                payload = b"{%s:%s}" % (to_json(self.positional[0]), payload)
        try:
            values = msgspec.structs.astuple(self._decode(payload))
            keywords = self._keywords_beyond(payload) if self._extras is not None else {}
        except (msgspec.ValidationError, msgspec.DecodeError):
            raise BadArguments(self.problems(payload)) from None
        places = len(self.positional)
        if len(values) > places:
            keywords.update(zip(list(self.fields)[places:], values[places:], strict=True))
        return values[:places], keywords

    def _alone(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not self._many:
            raise BadArguments([FieldError("payload", "arguments", "The task takes no positional argument.")])
        return (from_json(payload),), {}

    def _keywords_beyond(self, payload: bytes) -> dict[str, Any]:
        assert self._extras is not None
        given = {name: value for name, value in from_json(payload).items() if name not in self.fields}
        if self.context and self.context.name in given:
            raise BadArguments([_taken(self.context.name)])
        hint = checkable(self._hints.get(self._extras, Any))
        return {name: msgspec.convert(value, hint) for name, value in given.items()}

    def problems(self, payload: bytes) -> list[FieldError]:
        """Every bad field of a payload that is an object. The slow way, after something was found."""
        try:
            given = from_json(payload)
        except msgspec.DecodeError as error:
            return [FieldError("payload", "malformed", f"{error}.")]
        errors = []
        for name, (hint, parameter) in self.fields.items():
            if name not in given:
                if parameter.default is _P.empty:
                    errors.append(FieldError(name, "missing", "This argument is required."))
                continue
            errors.extend(_mismatch(name, given[name], hint))
        for name, value in given.items():
            if self.context and name == self.context.name:
                errors.append(_taken(name))
            elif name not in self.fields:
                if self._extras is None:
                    known = ", ".join(self.fields) or "none"
                    errors.append(FieldError(name, "unknown", f"There is no such argument; known: {known}."))
                else:
                    errors.extend(_mismatch(name, value, checkable(self._hints.get(self._extras, Any))))
        return errors

    def payload(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """JSON text of a call, positional arguments bound to their names; empty for a call without any.

        Raises:
            BadArguments: the call does not fit the function; every bad field is named.
        """
        if self._many and not self.positional and args:
            return _lone_value(args, kwargs)
        given: dict[str, Any] = dict(zip(self.positional, args, strict=False))
        errors = []
        if len(args) > len(self.positional):
            message = f"{len(args)} positional arguments, the task takes {len(self.positional)}."
            errors.append(FieldError("payload", "arguments", message))
        for name in given.keys() & kwargs.keys():
            errors.append(FieldError(name, "twice", "Given by position and by name."))
        given.update(kwargs)
        payload, unsendable = encode(given)
        errors.extend(unsendable)
        if not errors:
            try:
                self.arguments(payload)
            except BadArguments as error:
                errors.extend(error.errors)
        if errors:
            raise BadArguments(errors)
        return payload if given else b""


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """JSON text for a task known by name only: keywords make an object, one positional value is itself.

    Raises:
        BadArguments: both, several positional ones, or something that JSON cannot say.
    """
    if args:
        return _lone_value(args, kwargs)
    if not kwargs:
        return b""
    payload, errors = encode(kwargs)
    if errors:
        raise BadArguments(errors)
    return payload


def checkable(hint: Any) -> Any:
    """The hint, or Any if msgspec could not check a value against it."""
    try:
        info = msgspec.inspect.type_info(hint)
    except Exception:  # noqa: BLE001  the hint may be any object of the user's, and so may what it raises
        return Any
    return Any if _has_custom(info) else hint


def _has_custom(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.CustomType):
        return True
    parts = [getattr(info, name, None) for name in ("item_type", "key_type", "value_type", "type")]
    for several in ("item_types", "types"):
        parts.extend(getattr(info, several, ()))
    return any(_has_custom(part) for part in parts if isinstance(part, msgspec.inspect.Type))


def _field(name: str, hint: Any, parameter: inspect.Parameter) -> Any:
    if parameter.default is _P.empty:
        return (name, hint)
    return (name, hint, msgspec.field(default_factory=partial(_same, parameter.default)))


def _same(value: Any) -> Any:
    """A default as Python has it: the same object for every call, mutable or not."""
    return value


def _mismatch(name: str, value: Any, hint: Any) -> list[FieldError]:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        return [FieldError(name + where.rstrip("`"), "type", f"{message}.")]
    return []


def _taken(name: str) -> FieldError:
    return FieldError(name, "context", "This parameter receives the run's context; it cannot be given.")


def _lone_value(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    if kwargs or len(args) > 1:
        message = "Give one positional value, or keywords: a payload is one JSON value or one object."
        raise BadArguments([FieldError("payload", "arguments", message)])
    payload, errors = encode(args[0])
    if errors:
        raise BadArguments(errors)
    return payload
