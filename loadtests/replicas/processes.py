"""Processes of a test: replicas and HAProxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from loadtests.replicas.network import Network

GRPC, HTTP = 50051, 8080
ROOT = Path(__file__).parents[2]
_CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
_START_SECONDS = 60.0
_STOP_SECONDS = 45.0  # longer than the drain
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says


class Process:
    """A process on a host, with its output in a file; it is not started yet."""

    def __init__(self, network: Network, host: str, command: Sequence[str], log: Path, **variables: str) -> None:
        """Keep the command and its additional environment variables."""
        self.host = host
        self.address = network.address(host)
        self._command = network.command(host, command)
        self._log = log
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        with self._log.open("ab") as output:
            environment = {**os.environ, **self._variables}
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=environment)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process, which has been started."""
        assert self._process is not None
        return self._process

    def stop(self) -> None:
        """Send SIGTERM and wait.

        Raises:
            RuntimeError: It ended with another status than 0.
        """
        self.running.terminate()
        if (status := self.running.wait(_STOP_SECONDS)) != 0:
            raise RuntimeError(f"{self.host} ended with status {status}; its log: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Send SIGKILL and wait, in whatever state the process is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)

    def usage(self) -> psutil.Process:
        """Return its use of the machine."""
        return psutil.Process(self.running.pid)


class Replica(Process):
    """A server of one thread, on one core."""

    def __init__(self, network: Network, host: str, *, models: Path, core: int, logs: Path) -> None:
        """Keep the command."""
        self.successor = partial(Replica, network, f"{host}-next", models=models, core=core, logs=logs)
        address = network.address(host)
        command = [sys.executable, "-m", "serving", "--models", str(models), "--threads", "1", "--log-level", "warning"]
        command += ["--listen", f"{address}:{GRPC}", "--http", f"{address}:{HTTP}", "--web", ""]
        if taskset := shutil.which("taskset"):
            command = [taskset, "--cpu-list", str(core), *command]
        super().__init__(network, host, command, logs / f"{host}.log")

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        super().start()
        give_up = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self.running.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{self.host} did not come up; its log: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def sum(self, name: str, labels: Mapping[str, str]) -> float:
        """Return the sum of the samples of a counter that have these labels."""
        families = text_string_to_metric_families(self._get("metrics"))
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def _get(self, path: str) -> str:
        with _DIRECT.open(f"http://{self.address}:{HTTP}/{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def _ready(self) -> bool:
        try:
            return bool(self._get("readyz"))
        except OSError:  # an HTTP error too
            return False


class Balancer(Process):
    """HAProxy with the configuration in ``deploy/haproxy``."""

    def __init__(self, network: Network, host: str, replicas: Sequence[Replica], *, logs: Path) -> None:
        """Keep the command.

        Raises:
            FileNotFoundError: HAProxy is not installed.
        """
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise FileNotFoundError("haproxy is not installed; on Debian: apt-get install haproxy")
        variables = {f"DRAGOMAN_{number}": replica.address for number, replica in enumerate(replicas, 1)}
        variables["DRAGOMAN_LISTEN"] = network.address(host)
        super().__init__(network, host, [program, "-db", "-f", str(_CONFIG)], logs / f"{host}.log", **variables)
