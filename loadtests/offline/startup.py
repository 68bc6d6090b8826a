"""Start-up time of the server and its memory: ``python -m loadtests.offline.startup``."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.report import table, write_json
from loadtests.service.cores import resident
from loadtests.service.sentences import BUNDLED, read_lines
from loadtests.service.services import dragoman
from serving.client import Options, TranslationClient

_READY_SECONDS = 2.0
_MEMORY_OVER_FILES = 200e6  # bytes
_COLUMNS = {"ready s": "{ready_seconds:.2f}", "bytes when ready": "{ready_bytes}", "after translations": "{used_bytes}"}


@dataclass(frozen=True)
class Start:
    """One start of a server."""

    ready_seconds: float  # time from the start of its process until it logged that it was ready
    ready_bytes: int  # resident memory then
    used_bytes: int  # resident memory after some translations of beam 1 and 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.startup", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help="directory of bundles (default: models)")
    parser.add_argument("--starts", type=int, default=5, help="default: 5, after one that is not counted")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("options", nargs="*", help="options of the server, after --")
    asked = parser.parse_args(arguments)
    start(asked.models, asked.options)  # warms the disk's cache
    starts = [start(asked.models, asked.options) for _ in range(asked.starts)]
    files = sum(path.stat().st_size for path in asked.models.rglob("*") if path.is_file())
    ready, used = statistics.median(s.ready_seconds for s in starts), max(s.used_bytes for s in starts)
    rows = [asdict(one) for one in starts]
    print(table(rows, _COLUMNS))
    print(f"\nmedian {ready:.2f} s; at most {used / 1e6:.0f} MB, {(used - files) / 1e6:.0f} MB more than the files")
    if asked.json:
        write_json(asked.json, {"options": asked.options, "file_bytes": files, "starts": rows})
    broken = []
    if ready > _READY_SECONDS:
        broken.append(f"the server is ready after {ready:.2f} s, at most {_READY_SECONDS:g} s are allowed")
    if used > files + _MEMORY_OVER_FILES:
        broken.append(f"it holds {used / 1e6:.0f} MB, at most {(files + _MEMORY_OVER_FILES) / 1e6:.0f} MB are allowed")
    for sentence in broken:
        print(f"startup: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def start(models: Path, options: Sequence[str] = ()) -> Start:
    """Start a server, let it translate the bundled sentences, and stop it."""
    with TemporaryDirectory() as folder, dragoman(models, Path(folder) / "log", options) as service:
        ready_bytes, texts = resident(service.process), read_lines(BUNDLED)
        with TranslationClient(service.address, deadline=120) as client:
            for beam in (1, 4):
                client.translate(texts, Options(beam_size=beam))
        return Start(service.start_seconds, ready_bytes, resident(service.process))


if __name__ == "__main__":
    sys.exit(main())
