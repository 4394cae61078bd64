"""Addresses as people see them and as programs reach them."""

from __future__ import annotations


def without_password(url: str) -> str:
    """
    >>> without_password("nats://echelon:secret@127.0.0.1:4222")
    'nats://127.0.0.1:4222'
    """
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def reachable(host: str) -> str:
    """What to put into a URL for a server that listens on `host`.

    >>> reachable("0.0.0.0"), reachable("::1")
    ('127.0.0.1', '[::1]')
    """
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
