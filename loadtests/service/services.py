"""A fresh server for a load test: this project's, or a peer behind the same API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_SECONDS = 120.0
_STOP_SECONDS = 40.0  # a little more than a server gives accepted calls to finish


@dataclass(frozen=True)
class Service:
    """A running server.

    Attributes:
        address: HOST:PORT of gRPC.
        process: Its process.
    """

    address: str
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Processor time it has used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def dragoman(models: Path, log: Path, options: Sequence[str] = ()) -> Iterator[Service]:
    """This project's server, as it is shipped, on a free port."""
    with _running("serving", ["--models", str(models), "--http", "127.0.0.1:0", *options], log) as service:
        yield service


@contextmanager
def ctranslate2(models: Path, log: Path, options: Sequence[str] = ()) -> Iterator[Service]:
    """CTranslate2 with the same weights behind the same API, on a free port."""
    with _running("loadtests.peer", ["--models", str(models), *options], log) as service:
        yield service


@contextmanager
def _running(module: str, options: Sequence[str], log: Path) -> Iterator[Service]:
    command = [sys.executable, "-m", module, "--listen", "127.0.0.1:0", *options]
    with log.open("wb") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            yield Service(_address(process, log), psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Waits for the log line that says the server is ready.

    Raises:
        RuntimeError: The server ended, or takes too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            said = _parsed(line)
            if said.get("event") == "ready":
                return str(said["listen"])
        time.sleep(0.1)
    tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
    state = f"ended with status {process.returncode}" if process.poll() is not None else "is not ready"
    raise RuntimeError(f"the server {state} after {_START_SECONDS:g} s at most; it said:\n{tail}")


def _parsed(line: str) -> dict[str, object]:
    try:
        said = json.loads(line)
    except ValueError:  # not a line of its log, or half of one
        return {}
    return said if isinstance(said, dict) else {}
