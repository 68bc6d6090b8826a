"""HTTP proxies named by environment variables: which targets are reached through one.

gRPC follows the variables even to a server on the same machine, so the decision is taken here and passed to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from serving.loopback import is_loopback_host

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # the first that is set counts, as in gRPC
_EXCEPTION_VARIABLES = ("no_grpc_proxy", "no_proxy")
# Reserved for networks that no proxy connects, or in common use there.
_PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".svc", ".lan", ".home.arpa", ".intranet", ".corp", ".private")
_PREFIX = re.compile(r"(?:dns|ipv4|ipv6):(?://[^/]*/)?")


def proxy_for(target: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the proxy that leads to a gRPC target, or an empty string if it is reached directly.

    Loopback and private addresses, names without a dot, names in private domains and Unix sockets are reached directly,
    and so is what ``no_proxy`` names: suffixes of host names, networks, or ``*``.
    """
    proxy = _first(_PROXY_VARIABLES, environment)
    exceptions = [entry.strip() for entry in _first(_EXCEPTION_VARIABLES, environment).split(",") if entry.strip()]
    direct = target.startswith(("unix", "vsock")) or all(
        _is_private(host) or any(_matches(host, entry) for entry in exceptions) for host in _hosts(target)
    )
    return "" if direct else proxy


def proxy_options(target: str) -> tuple[tuple[str, str | int], ...]:
    """Return the channel options that make gRPC take the same way as :func:`proxy_for`."""
    proxy = proxy_for(target)
    return (("grpc.http_proxy", proxy),) if proxy else (("grpc.enable_http_proxy", 0),)


def route(target: str) -> str:
    """Return what an error message adds about the way to ``target``: the proxy without credentials, or nothing."""
    proxy = proxy_for(target)
    return f" (through the proxy {urlsplit(proxy).netloc.rpartition('@')[2] or proxy})" if proxy else ""


def is_loopback(target: str) -> bool:
    """Return whether a gRPC target is on this machine; a Unix socket is."""
    return target.startswith(("unix:", "unix-abstract:")) or all(map(is_loopback_host, _hosts(target)))


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    return next((environment[name] for name in names if name in environment), "")


def _hosts(target: str) -> Iterator[str]:
    for address in _PREFIX.sub("", target, count=1).replace("%5B", "[").replace("%5D", "]").split(","):
        host, colon, _ = address.rpartition(":")
        yield (host if colon and not address.endswith("]") else address).strip("[]").lower()


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_private(host: str) -> bool:
    if address := _address(host):
        return not address.is_global
    return "." not in host or host.endswith(_PRIVATE_DOMAINS)


def _matches(host: str, entry: str) -> bool:
    if "/" not in entry:
        return entry == "*" or host.endswith(entry.lower())
    address = _address(host)
    try:
        return address is not None and address in ip_network(entry, strict=False)
    except ValueError:
        return False
