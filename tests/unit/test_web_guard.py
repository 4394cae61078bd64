"""Names that are not ours and pages of others are turned away at the door."""

from __future__ import annotations

import pytest

from echelon_web.guard import Guard, names_of


async def nothing(*args: object) -> None:
    """The application behind the guard."""


def verdict(method: str = "GET", **headers: str) -> int:
    guard = Guard(nothing, names_of("scheduler.example.org"))
    refusal = guard.refusal(
        method, {name.replace("_", "-").encode(): value for name, value in headers.items()}
    )
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7",
        "scheduler.example.org:8000", "Scheduler.Example.org", "web.localhost:8000",
    ],
)  # fmt: skip
def test_our_names_and_every_address_are_let_in(host: str) -> None:
    assert verdict(host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "[", "127.0.0.1.evil.example:80"]
)
def test_a_name_that_was_pointed_at_us_is_not(host: str) -> None:
    assert verdict(host=host) == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # curl, the SDK
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, 200),
        ({"origin": "http://localhost:9000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_only_our_own_pages_may_act(headers: dict[str, str], status: int) -> None:
    assert verdict("POST", host="localhost:8000", **headers) == status
    assert verdict("GET", host="localhost:8000", **headers) == 200
