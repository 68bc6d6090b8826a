"""Loopback: hosts that other machines do not reach."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback_host(host: str) -> bool:
    """Return whether a host is this machine, seen from itself only; a name is resolved by nobody, but for localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
