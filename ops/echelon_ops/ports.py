"""Which port to use: the one asked for or none, a default one or the next free."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

_TRIES: Final = 200


class PortTaken(Exception):
    """The port that was asked for is in use; the message says by which flag to change it."""


def is_free(host: str, port: int) -> bool:
    """Could a server listen there now? (Asked by listening, for a moment.)"""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_free(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def choose(host: str, port: int, *, asked: bool, flag: str) -> int:
    """`port` if it is free; otherwise, unless someone asked for it, the next one that is. 0 means any.

    Raises:
        PortTaken: it was asked for, or none of the next 200 is free.
    """
    if port == 0:
        return any_free(host)
    if is_free(host, port):
        return port
    if asked:
        raise PortTaken(f"Port {port} on {host} is taken. Give another with {flag}, or {flag} 0 for any.")
    for other in range(port + 1, min(port + _TRIES, 65536)):
        if is_free(host, other):
            return other
    raise PortTaken(f"No port from {port} to {port + _TRIES} on {host} is free. Give one with {flag}.")


def answers(address: str) -> bool:
    """Does anybody listen at this URL?"""
    parts = urlsplit(address.split(",")[0])
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 4222), 0.5).close()
    except OSError:
        return False
    return True
