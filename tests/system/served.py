"""A server process over a directory of bundles."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Addresses:
    """HOST:PORT of a server's ports; the web port is closed unless it is asked for."""

    grpc: str
    http: str
    web: str


@contextmanager
def server(models: Path, *options: str) -> Iterator[Addresses]:
    """Starts ``python -m serving`` and waits until it is ready; ends it with SIGTERM and expects status 0."""
    arguments = ["--models", str(models), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--web", "", *options]
    process = subprocess.Popen([sys.executable, "-m", "serving", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        ready = next((event for event in map(json.loads, process.stderr) if event["event"] == "ready"), None)
        if ready is None:
            pytest.fail("the server ended before it was ready")
        # A pipe that nobody reads fills up and stops the server at its next log line.
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield Addresses(ready["listen"], ready["http"], ready.get("web", ""))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    rest.join()
    process.stderr.close()
