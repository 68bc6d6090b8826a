"""The processes of a test: replicas and HAProxy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil

from loadtests.replicas.network import Network

GRPC, HTTP = 50051, 8080
ROOT = Path(__file__).parents[2]
_CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
_START_SECONDS = 60.0
_STOP_SECONDS = 45.0  # longer than the drain
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says


class Process:
    """A process on a host, with its output in a file."""

    def __init__(self, network: Network, host: str, command: list[str], log: Path) -> None:
        """Knows how to start; does not."""
        self.host = host
        self._command = network.command(host, command)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=self._environment())

    def stop(self) -> None:
        """Sends SIGTERM and waits.

        Raises:
            RuntimeError: It ended with another status than 0.
        """
        self._signal(signal.SIGTERM)
        if (status := self._wait()) != 0:
            raise RuntimeError(f"{self.host} ended with status {status}; its log: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Sends SIGKILL and waits."""
        self._signal(signal.SIGKILL)
        self._wait()

    def usage(self) -> psutil.Process:
        """What it uses of the machine."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def close(self) -> None:
        """Ends it in whatever state it is."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> int:
        assert self._process is not None
        return self._process.wait(_STOP_SECONDS)


class Replica(Process):
    """A server of one thread, on one core."""

    def __init__(self, network: Network, host: str, *, models: Path, core: int, logs: Path) -> None:
        """Knows how to start; does not."""
        self.address = network.address(host)
        self._successor = partial(Replica, network, f"{host}-next", models=models, core=core, logs=logs)
        command = [sys.executable, "-m", "serving", "--models", str(models), "--threads", "1"]
        command += ["--listen", f"{self.address}:{GRPC}", "--http", f"{self.address}:{HTTP}", "--log-level", "warning"]
        if taskset := shutil.which("taskset"):
            command = [taskset, "--cpu-list", str(core), *command]
        super().__init__(network, host, command, logs / f"{host}.log")

    def start(self) -> None:
        """Starts the server and waits until it takes calls."""
        super().start()
        give_up = time.monotonic() + _START_SECONDS
        while not self._ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self.host} did not come up; its log: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def successor(self) -> Replica:
        """One that is alike, on a host of its own."""
        return self._successor()

    def counter(self, name: str, **labels: str) -> float:
        """The sum of a counter over the series that have these labels."""
        with _DIRECT.open(f"http://{self.address}:{HTTP}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        total = 0.0
        for line in re.findall(rf"^{name}(?:{{.*}})? .*$", text, re.MULTILINE):
            if all(f'{label}="{value}"' in line for label, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def _ready(self) -> bool:
        try:
            with _DIRECT.open(f"http://{self.address}:{HTTP}/readyz", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Balancer(Process):
    """HAProxy with the configuration that is in deploy/haproxy."""

    def __init__(self, network: Network, host: str, replicas: Sequence[Replica], *, logs: Path) -> None:
        """Knows how to start; does not.

        Raises:
            FileNotFoundError: There is no haproxy.
        """
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise FileNotFoundError("no haproxy is installed; on Debian: apt-get install haproxy")
        self.address = network.address(host)
        self._variables = {"DRAGOMAN_LISTEN": self.address}
        self._variables |= {f"DRAGOMAN_{number}": replica.address for number, replica in enumerate(replicas, 1)}
        super().__init__(network, host, [program, "-db", "-f", str(_CONFIG)], logs / f"{host}.log")

    @property
    def target(self) -> str:
        """Where clients connect."""
        return f"{self.address}:{GRPC}"

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self._variables}
