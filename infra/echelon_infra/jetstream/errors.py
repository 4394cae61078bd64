"""What can go wrong between us and the broker. Nothing of nats leaks out of this package.

BrokerError
├── Timeout        no answer in time: the outcome is unknown, not negative
├── NoResponders   nobody listens on that subject now (a server that starts, a stream without leader)
└── ApiError       JetStream answered, and refused
"""

from __future__ import annotations

from typing import Final


class BrokerError(Exception):
    """The broker did not do what was asked."""


class Timeout(BrokerError):
    """No answer in time. What was asked may yet have happened, or happen later."""


class NoResponders(BrokerError):
    """Nobody listens there now. During a restart of the server this passes."""


class ApiError(BrokerError):
    """JetStream refused.

    `code` is like HTTP's, `err_code` is the precise one of nats-server (10071: wrong last sequence).
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({code}/{err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


WRONG_LAST_SEQUENCE: Final = 10071
WRONG_LAST_SEQUENCE_IN_FLIGHT: Final = 10164
"""The same, where another publish to the subject is still in flight (clusters, batches)."""
STREAM_NOT_FOUND: Final = 10059
STREAM_NAME_IN_USE: Final = 10058
MESSAGE_NOT_FOUND: Final = 10037
ATOMIC_DISABLED: Final = 10174
