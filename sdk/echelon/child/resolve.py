"""Results of dependencies put into a payload: {"$result": id, "path": "/a/0"} and "result_from_<id>"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from echelon.errors import BadArguments
from echelon.wire.api import FieldError
from echelon.wire.codec import from_json, to_json

_FOUNDING: Final = "result_from_"
_MARKS: Final = (b"$result", b"result_from_", rb"\u")  # an escape may hide one of the first two


def resolve(payload: bytes, results: Mapping[str, Any]) -> bytes:
    """The payload with every reference to a dependency replaced by its result.

    A string that names no dependency is an ordinary string; a `$result` that does not is a mistake.

    Raises:
        BadArguments: a `$result` names no dependency, or its path leads nowhere.

    >>> text = b'{"x": {"$result": "task-a", "path": "/n/0"}, "y": "result_from_task_a"}'
    >>> resolve(text, {"task-a": {"n": [7]}})
    b'{"x":7,"y":{"n":[7]}}'
    """
    if not any(mark in payload for mark in _MARKS):
        return payload
    spelled = {_FOUNDING + re.sub("[-.:]", "_", task_id): task_id for task_id in results}
    errors: list[FieldError] = []

    def walk(value: Any, at: str) -> Any:
        match value:
            case str():
                return results[spelled[value]] if value in spelled else value
            case list():
                return [walk(item, f"{at}[{index}]") for index, item in enumerate(value)]
            case {"$result": str(task_id), **rest} if set(rest) <= {"path"}:
                if task_id not in results:
                    errors.append(FieldError(at, "result", f"{task_id!r} is no dependency of this task."))
                    return None
                return _follow(results[task_id], rest.get("path", ""), at, errors)
            case dict():
                return {key: walk(item, f"{at}.{key}" if at else key) for key, item in value.items()}
            case _:
                return value

    resolved = walk(from_json(payload), "")
    if errors:
        raise BadArguments(errors)
    return to_json(resolved)


def _follow(value: Any, path: Any, at: str, errors: list[FieldError]) -> Any:
    """A JSON pointer (RFC 6901)."""
    found = value
    try:
        if path and not path.startswith("/"):
            raise ValueError
        for part in path.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        errors.append(FieldError(f"{at}.path", "path", f"{path!r} leads nowhere in that result."))
        return None
    return found
