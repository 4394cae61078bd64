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


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return host == "localhost" or host == "::1" or host.startswith("127.")


def exposure(host: str, *, insecure: bool) -> tuple[str, bool]:
    """What to say of a web server that listens on `host` ("" = nothing), and whether it may."""
    if is_loopback(host):
        return "", True
    if insecure:
        return f"WARNING: {host} is open to everybody who can reach it: no keys are asked for.", True
    return (
        f"--host: {host} can be reached from other machines, and no keys are configured. "
        "Keep 127.0.0.1, put a proxy that asks for keys in front, or give --insecure to let everybody in.",
        False,
    )
