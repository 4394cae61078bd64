"""Which child to replace when the machine's memory is nearly gone: one that leaks, none that is just large.

A handler that loads a model of two gigabytes at import is large from the start and stays so; replacing it
would help nobody. So a child is measured against itself when it had just loaded the application.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

GROWTH: Final = 2.0
LEAST_BYTES: Final = 256 << 20
"""Below this it is not the culprit, however much it grew."""


class Size(NamedTuple):
    """Bytes of resident memory."""

    first: int
    now: int


def grown(children: Mapping[int, Size]) -> int | None:
    """The one that has grown most, by its key, if that is twice its first size and not small.

    >>> grown({1: Size(100 << 20, 900 << 20), 2: Size(2 << 30, 3 << 30)})
    1
    """
    suspects = [
        (size.now - size.first, key)
        for key, size in children.items()
        if size.now >= LEAST_BYTES and size.now >= GROWTH * size.first
    ]
    return max(suspects)[1] if suspects else None
