"""Hosts for the replicas: network namespaces of the test's own, or loopback addresses where a machine has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "SCALE_TEST_INSIDE"  # set for the process that has namespaces of its own
_NAMES = Path("/run/hosts")


class Network:
    """Hosts that are addresses in 127.0.0.0/8."""

    isolated = False

    def __init__(self) -> None:
        """Begin without hosts."""
        self._hosts: dict[str, str] = {}

    def address(self, host: str) -> str:
        """Return the IPv4 address of a host, which is created if it is new."""
        return self._hosts.setdefault(host, f"127.0.1.{len(self._hosts) + 1}")

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """Return a command that runs ``command`` on a host."""
        return list(command)

    def target(self, hosts: Sequence[str], port: int) -> str:
        """Return the target of a client that balances; another call changes where existing clients find replicas."""
        return "ipv4:" + ",".join(f"{self.address(host)}:{port}" for host in hosts)


class Namespaces(Network):
    """Hosts that are network namespaces joined by a bridge; all of it ends with the process."""

    isolated = True

    def __init__(self) -> None:
        """Create the bridge, in a process that :func:`enter_namespaces` started."""
        super().__init__()
        _run("mount -t tmpfs none /run")  # where ip keeps the names of namespaces
        _run("ip link set lo up")
        _run("ip link add bridge type bridge")
        _run("ip address add 10.77.0.1/24 dev bridge")
        _run("ip link set bridge up")
        self.target((), 0)
        _run(f"mount --bind {_NAMES} /etc/hosts")

    def address(self, host: str) -> str:
        """Return the IPv4 address of a host, which is created if it is new."""
        if host not in self._hosts:
            number = len(self._hosts) + 2
            self._hosts[host] = f"10.77.0.{number}"
            _run(f"ip netns add {host}")
            _run(f"ip link add port{number} type veth peer name eth0 netns {host}")
            _run(f"ip link set port{number} master bridge up")
            _run(f"ip -netns {host} address add {self._hosts[host]}/24 dev eth0")
            _run(f"ip -netns {host} link set eth0 up")
            _run(f"ip -netns {host} link set lo up")
        return self._hosts[host]

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """Return a command that runs ``command`` in the namespace of a host."""
        return ["ip", "netns", "exec", host, *command]

    def target(self, hosts: Sequence[str], port: int) -> str:
        """Return a name that resolves to the hosts, as that of a headless Service does."""
        # In place: a file of another inode would not be the mounted one.
        _NAMES.write_text("".join(f"{self.address(host)} dragoman\n" for host in hosts) + "127.0.0.1 localhost\n")
        return f"dns:///dragoman:{port}"


def enter_namespaces(module: str, arguments: Sequence[str]) -> None:
    """Start ``python -m module`` again in namespaces of its own, where the machine allows that; return otherwise."""
    if _INSIDE in os.environ or not shutil.which("unshare") or not shutil.which("ip"):
        return
    own = ["unshare", "--net", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0:
        os.environ[_INSIDE] = "1"
        os.execvp(own[0], [*own, sys.executable, "-m", module, *arguments])


def network() -> Network:
    """Return namespaces if this process has its own, loopback addresses if not."""
    return Namespaces() if _INSIDE in os.environ else Network()


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
