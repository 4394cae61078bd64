"""API subjects and the grammar of ids: what applications and servers must agree on.

Inside Echelon a task is its `ref`: ledger sequence × 1024 + index in the entry. An id that the user
did not give *is* the ref, written so that ids sort by time.
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "echelon"

SUBMIT: Final = f"{PREFIX}.api.task.submit"
CANCEL: Final = f"{PREFIX}.api.task.cancel"
RETRY: Final = f"{PREFIX}.api.task.retry"
GET: Final = f"{PREFIX}.api.task.get"
RESULT: Final = f"{PREFIX}.api.task.result"
PING: Final = f"{PREFIX}.api.ping"

BLOBS: Final = f"{PREFIX}_blobs"

TASKS_PER_REQUEST: Final = 1000
REQUEST_BYTES: Final = 512 * 1024
INLINE_BYTES: Final = 128 * 1024
"""Payloads and results above this travel through the object store."""
PAYLOAD_BYTES: Final = 64 * 1024 * 1024
TASKS_PER_ENTRY: Final = 1024

PRIORITIES: Final = {"critical": 10, "high": 7, "normal": 5, "low": 2}
"""Words for priorities, in any case."""

_TASK_ID: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.:-]{1,128}\Z")
_MADE_ID: Final = re.compile(r"t-[0-9a-hjkmnp-tv-z]{13}\Z")
_TASK_TYPE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,254}\Z")
_TOKEN: Final = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}\Z")
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE: Final = {letter: value for value, letter in enumerate(_ALPHABET)}


def outcomes_stream(region: str) -> str:
    """The stream in which a region's results lie; a client reads them there by sequence."""
    return f"{PREFIX}_outcomes_{region}"


def is_task_id(text: str) -> bool:
    return _TASK_ID.match(text) is not None


def is_task_type(text: str) -> bool:
    return _TASK_TYPE.match(text) is not None


def is_token(text: str) -> bool:
    """May this be a region, pool or tenant?"""
    return _TOKEN.match(text) is not None


def id_of(ref: int) -> str:
    """The id of a task whose user gave none.

    >>> id_of(1024)
    't-0000000000100'
    """
    digits = [_ALPHABET[(ref >> shift) & 31] for shift in range(60, -1, -5)]
    return "t-" + "".join(digits)


def ref_of(task_id: str) -> int | None:
    """The ref that a made id names, or None if the user gave this id.

    >>> ref_of("t-0000000000100"), ref_of("task-a")
    (1024, None)
    """
    if not task_id.startswith("t-") or _MADE_ID.match(task_id) is None:
        return None
    ref = 0
    for letter in task_id[2:]:
        ref = ref << 5 | _VALUE[letter]
    return ref
