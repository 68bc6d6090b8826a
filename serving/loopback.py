"""Loopback: hosts that other machines do not reach, and how a browser is made to reach them."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback_host(host: str) -> bool:
    """Return whether a host is this machine, seen from itself only; a name is resolved by nobody, but for localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_foreign_host(header: str, allowed: Collection[str]) -> bool:
    """Return whether a ``Host`` header is another site's name, by which its pages reach loopback (DNS rebinding).

    An address is nobody's name, and a browser sends no request without the header.
    """
    if not header:
        return False
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return True
    if host == "localhost" or host.endswith(".localhost") or host in allowed:
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
