"""Hosts for the replicas: network namespaces of this test's own, or loopback addresses where a machine has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_INSIDE = "SCALE_TEST_INSIDE"  # set for the process that has namespaces of its own
_BRIDGE = "10.77.0.1"
NAME = "dragoman"  # what the addresses of the replicas are called


class Network(Protocol):
    """Where replicas listen and how clients find them."""

    isolated: bool

    def address(self, host: str) -> str:
        """The IPv4 address of a host, which comes into being if it is new."""

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """What to run so that ``command`` runs on a host."""

    def target(self, hosts: Sequence[str], port: int) -> str:
        """What a client that balances connects to. Another call changes where existing clients find the replicas."""


class Namespaces:
    """A network namespace for each host, joined by a bridge; all of it ends with this process."""

    isolated = True

    def __init__(self) -> None:
        """Needs a process that :func:`enter_namespaces` started."""
        self._hosts: dict[str, str] = {}
        _run("mount", "-t", "tmpfs", "none", "/run")  # where ip keeps the names of namespaces
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "bridge", "type", "bridge")
        _run("ip", "address", "add", f"{_BRIDGE}/24", "dev", "bridge")
        _run("ip", "link", "set", "bridge", "up")
        self._names = Path("/run/hosts")
        self._write_names(())
        _run("mount", "--bind", str(self._names), "/etc/hosts")

    def address(self, host: str) -> str:
        """The IPv4 address of a host."""
        if host not in self._hosts:
            number = len(self._hosts) + 2
            self._hosts[host] = f"10.77.0.{number}"
            _run("ip", "netns", "add", host)
            _run("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
            _run("ip", "link", "set", f"port{number}", "master", "bridge", "up")
            for settings in (
                ("address", "add", f"{self._hosts[host]}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _run("ip", "-netns", host, *settings)
        return self._hosts[host]

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """Runs ``command`` in the host's namespace."""
        self.address(host)
        return ["ip", "netns", "exec", host, *command]

    def target(self, hosts: Sequence[str], port: int) -> str:
        """A name that resolves to the hosts, as that of a headless Service does."""
        self._write_names([self.address(host) for host in hosts])
        return f"dns:///{NAME}:{port}"

    def _write_names(self, addresses: Sequence[str]) -> None:
        # In place: a file of another inode would not be the mounted one.
        self._names.write_text("".join(f"{address} {NAME}\n" for address in addresses) + "127.0.0.1 localhost\n")


class Loopback:
    """An address in 127.0.0.0/8 for each host."""

    isolated = False

    def __init__(self) -> None:
        """Needs nothing."""
        self._hosts: dict[str, str] = {}

    def address(self, host: str) -> str:
        """The IPv4 address of a host."""
        return self._hosts.setdefault(host, f"127.0.1.{len(self._hosts) + 1}")

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """Runs ``command`` as it is."""
        self.address(host)
        return list(command)

    def target(self, hosts: Sequence[str], port: int) -> str:
        """The addresses themselves."""
        return "ipv4:" + ",".join(f"{self.address(host)}:{port}" for host in hosts)


def enter_namespaces(module: str, arguments: Sequence[str]) -> None:
    """Starts ``python -m module`` again in namespaces of its own, where the machine allows that; returns otherwise."""
    if _INSIDE in os.environ or not shutil.which("unshare") or not shutil.which("ip"):
        return
    own = ["unshare", "--net", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execvp(own[0], [*own, sys.executable, "-m", module, *arguments])


def network() -> Network:
    """Namespaces if this process has its own, loopback addresses if not."""
    return Namespaces() if _INSIDE in os.environ else Loopback()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
