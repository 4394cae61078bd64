"""Small GETs on this machine from inside the supervisor's loop: no thread, no client library to import."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 2.0


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes


async def get(url: str) -> Answer | None:
    """The answer, or None if there was none in 2 s. HTTP/1.0, so the server closes and the body just ends."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return None
    return Answer(int(words[1]), body)
