"""Who may talk to this server from a browser: nobody's page but ours.

A name that somebody points at 127.0.0.1 (DNS rebinding) is not ours, and a page of another origin may not
post to us. IP addresses cannot be rebound, so they are let through. Every answer carries the headers that
keep the dashboard to its own files.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from echelon.wire.api import Refusal
from echelon_web.api.problems import MEDIA_TYPE, document

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = set(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            return  # none are served

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.refusal(scope["method"], headers)
        if refusal is None:
            await self._app(scope, receive, guarded)
        else:
            await _refuse(guarded, refusal)

    def refusal(self, method: str, headers: dict[bytes, str]) -> Refusal | None:
        host = headers.get(b"host", "").lower()
        if not self._ours(host):
            return Refusal(
                "host", 421, "Unknown host", f"This server is not {host[:100]!r}.",
                "Use its address, localhost, or the name given with --host.",
            )  # fmt: skip
        if method in _SAFE:
            return None
        origin = headers.get(b"origin")
        foreign = origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}")
        if foreign or headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
            return Refusal(
                "origin", 403, "Foreign origin", "A page of another origin may not act here.",
                "Act from the dashboard, the command line or the SDK.",
            )  # fmt: skip
        return None

    def _ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            if name in self._names or name == "localhost" or name.endswith(".localhost"):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def names_of(host: str) -> set[str]:
    """The names under which this server may be called, beside addresses and localhost."""
    return {host.lower(), socket.gethostname().lower()}


async def _refuse(send: Send, refusal: Refusal) -> None:
    body = msgspec.json.encode(document(refusal))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
