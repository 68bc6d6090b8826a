"""How soon the server is ready, and what it holds in memory: ``python -m loadtests.offline.startup``."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from loadtests.offline.report import machine, table, versions, write_json
from loadtests.service.sentences import BUNDLED, read_lines
from serving.client import Options, TranslationClient

_READY_SECONDS = 2.0
_MEMORY_OVER_FILES = 200e6  # bytes
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Start:
    """One start of a server.

    Attributes:
        ready_seconds: From the start of its process until it said that it is ready.
        ready_bytes: Resident memory then.
        used_bytes: Resident memory after some translations of beam 1 and 4.
    """

    ready_seconds: float
    ready_bytes: int
    used_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if a limit is broken."""
    asked = _parser().parse_args(arguments)
    start(asked.models, asked.options)  # warms the disk's cache
    starts = [start(asked.models, asked.options) for _ in range(asked.starts)]
    files = sum(path.stat().st_size for path in asked.models.rglob("*") if path.is_file())
    ready, used = statistics.median(s.ready_seconds for s in starts), max(s.used_bytes for s in starts)
    rows = [[f"{s.ready_seconds:.2f}", f"{s.ready_bytes / 1e6:.0f}", f"{s.used_bytes / 1e6:.0f}"] for s in starts]
    print(table(["ready s", "MB when ready", "MB after translations"], rows))
    print(f"\nmedian {ready:.2f} s; at most {used / 1e6:.0f} MB, {(used - files) / 1e6:.0f} MB more than the files")
    if asked.json:
        content = {"machine": machine(), "versions": versions(), "options": asked.options, "file_bytes": files}
        write_json(asked.json, {**content, "starts": [asdict(one) for one in starts]})
    broken = []
    if ready > _READY_SECONDS:
        broken.append(f"the server is ready after {ready:.2f} s, at most {_READY_SECONDS:g} s are allowed")
    if used > files + _MEMORY_OVER_FILES:
        broken.append(f"it holds {used / 1e6:.0f} MB, at most {(files + _MEMORY_OVER_FILES) / 1e6:.0f} MB are allowed")
    for sentence in broken:
        print(f"startup: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.startup", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="directory of bundles (default: models)")
    parser.add_argument("--starts", type=int, default=5, help="default: 5, after one that is not counted")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("options", nargs="*", help="of the server, after --")
    return parser


def start(models: Path, options: Sequence[str] = ()) -> Start:
    """Starts a server on free ports of loopback, has it translate the bundled sentences, and ends it."""
    address = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command = [sys.executable, "-m", "serving", "--models", str(models.resolve()), *address, *options]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=_ROOT, text=True) as process:
        try:
            listen = _ready(process)
            seconds = time.perf_counter() - began
            server = psutil.Process(process.pid)
            ready_bytes = server.memory_info().rss
            texts = read_lines(BUNDLED)
            with TranslationClient(listen, deadline=120) as client:
                for beam in (1, 4):
                    client.translate(texts, Options(beam_size=beam))
            return Start(seconds, ready_bytes, server.memory_info().rss)
        finally:
            process.kill()


def _ready(process: subprocess.Popen[str]) -> str:
    """Reads the server's log until it is ready; returns its address."""
    said: list[str] = []
    for line in process.stderr or ():
        said.append(line)
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("event") == "ready":
            return str(entry["listen"])
    raise RuntimeError(f"the server ended before it was ready; it said: {''.join(said[-5:])}")


if __name__ == "__main__":
    sys.exit(main())
