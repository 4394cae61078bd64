"""Which work messages a worker has had, so that a copy of one does no harm; and which it must ask about.

After the kill of a server messages come again that were delivered before, and `num_delivered` is 1 again.
So a worker remembers what it had: by sequence, and by digest too, for after a power loss sequences may be
used again with other content. What it does not remember it may take on trust only if the message was stored
during this very connection and delivered for the first time.
"""

from __future__ import annotations

import zlib
from typing import Final

REMEMBERED: Final = 10_000
MARGIN_S: Final = 0.25
"""The server's clock, which stamps messages, may be behind ours by this much."""


class Copies:
    """The last messages this worker took in: sequence → digest, the oldest forgotten first."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._digests: dict[int, int] = {}
        self._remembered = remembered

    def add(self, sequence: int, data: bytes) -> bool:
        """Take note of a message; False: it is a copy of one that was here."""
        digest = zlib.crc32(data)
        before = self._digests.pop(sequence, None)
        self._digests[sequence] = digest
        if before is None and len(self._digests) > self._remembered:
            del self._digests[next(iter(self._digests))]
        return before != digest

    def forget(self, sequence: int) -> None:
        """It was dropped undone: if it comes again, it is news."""
        self._digests.pop(sequence, None)


def doubtful(stored_at: float, delivered: int, connected_at: float) -> bool:
    """May another worker have had this message, or may its end be told already?

    >>> doubtful(stored_at=100.0, delivered=1, connected_at=99.0)
    False
    >>> doubtful(stored_at=100.0, delivered=2, connected_at=99.0), doubtful(98.0, 1, connected_at=99.0)
    (True, True)
    """
    return delivered > 1 or stored_at <= connected_at + MARGIN_S
