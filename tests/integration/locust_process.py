"""Locust as a person runs it: in processes of its own, which it patches, against a server of a test."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.service.calls import Call, read_calls

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    status: int
    output: str
    calls: list[Call]
    figures: dict[str, Any]


def command(locustfile: str, *options: object) -> list[str]:
    files = ["-f", f"loadtests/service/{locustfile}.py", "--headless", "--only-summary"]
    return [sys.executable, "-m", "locust", *files, *map(str, options)]


def locust(folder: Path, locustfile: str, address: str, *options: object, workers: int = 0) -> Result:
    """Runs Locust, with worker processes if asked for, and reads its results."""
    calls, summary = folder / "calls.csv", folder / "summary.json"
    results = ["--host", address, "--calls", calls, "--summary", summary]
    crew: list[subprocess.Popen[str]] = []
    if workers:
        number = _free_port()
        results += ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", number]
        results += ["--expect-workers", workers]
        worker = command(locustfile, "--worker", "--master-host", "127.0.0.1", "--master-port", number)
        crew = [
            subprocess.Popen(worker, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(workers)
        ]
    try:
        done = subprocess.run(
            command(locustfile, *results, *options),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        said = [process.communicate(timeout=60)[0] for process in crew]
    finally:
        for process in crew:
            process.kill()
    output = "\n".join([done.stdout, *said])
    assert summary.exists(), output
    return Result(done.returncode, output, read_calls(calls), json.loads(summary.read_text()))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
