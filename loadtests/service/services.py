"""Fresh servers for load tests: this project's, or a peer behind the same API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_START_SECONDS = 120.0
_POLL_SECONDS = 0.01
_STOP_SECONDS = 40.0  # a little more than a server gives accepted calls to finish


@dataclass(frozen=True)
class Service:
    """A running server."""

    address: str  # HOST:PORT of gRPC
    http: str  # HOST:PORT of its metrics; empty if it has none
    process: psutil.Process  # its process
    start_seconds: float  # time from the start of the process until it logged that it was ready


def dragoman(models: Path, log: Path, options: Sequence[str] = ()) -> AbstractContextManager[Service]:
    """Run this project's server, as it is shipped, on a free port."""
    return _running("serving", ["--models", str(models), "--http", "127.0.0.1:0", "--web", "", *options], log)


def ctranslate2(models: Path, log: Path, options: Sequence[str] = ()) -> AbstractContextManager[Service]:
    """Run CTranslate2 with the same weights behind the same API, on a free port."""
    return _running("loadtests.peer", ["--models", str(models), *options], log)


@contextmanager
def _running(module: str, options: Sequence[str], log: Path) -> Iterator[Service]:
    command = [sys.executable, "-m", module, "--listen", "127.0.0.1:0", *options]
    started = time.perf_counter()
    with log.open("wb") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            ready = _ready(process, log)
            listen, http = str(ready["listen"]), str(ready.get("http", ""))
            yield Service(listen, http, psutil.Process(process.pid), time.perf_counter() - started)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Wait until the log says that the server is ready; return that line, which has its addresses.

    Raises:
        RuntimeError: The server ended, or takes too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            entry: dict[str, Any] = json.loads(line) if line.startswith("{") and line.endswith("\n") else {}
            if entry.get("event") == "ready":
                return entry
        time.sleep(_POLL_SECONDS)
    tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
    state = f"ended with status {process.returncode}" if process.poll() is not None else "is not ready"
    raise RuntimeError(f"the server {state} after {_START_SECONDS:g} s at most; it said:\n{tail}")
