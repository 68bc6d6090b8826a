"""A server process over a directory of bundles."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def server(models: Path) -> Iterator[str]:
    """Starts ``python -m serving``; gives the address of its gRPC port; ends it with SIGTERM and expects status 0."""
    arguments = ["--models", str(models), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    process = subprocess.Popen([sys.executable, "-m", "serving", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        ready = next((event for event in map(json.loads, process.stderr) if event["event"] == "ready"), None)
        if ready is None:
            pytest.fail("the server ended before it was ready")
        yield str(ready["listen"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
