"""``make gpu-check``: correctness and memory on a GPU by the tests of ``tests/gpu``, then times beside CTranslate2.

``--device cpu`` rehearses all of it without a GPU, with the code for GPUs running on the CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.offline import gpu
from loadtests.offline.gpu_model import add_options, unusable

TESTS = ("parity", "invariance", "memory")
ROOT = Path(__file__).parents[1]
# The settings of pyproject.toml expect plugins that such a machine need not have; and a check may take its time.
PYTEST = [
    "-o",
    "addopts=--import-mode=importlib",
    "-o",
    "filterwarnings=default",
    "-o",
    "timeout=0",
    "-p",
    "no:cacheprovider",
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a test fails or there is no GPU."""
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__)
    add_options(parser.add_argument)
    parser.add_argument(
        "--parts", nargs="+", choices=(*TESTS, *gpu.PARTS), default=(*TESTS, *gpu.PARTS), help="default: all"
    )
    parser.add_argument("--requests", type=int, default=10_000, help="mixed requests, for memory (default: 10000)")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of each measurement (default: 9)")
    asked = parser.parse_args(arguments)
    if reason := unusable(asked.device):
        print(f"gpu-check: {reason}", file=sys.stderr)
        return 1
    shared = [f"--bundle={asked.bundle.resolve()}", f"--device={asked.device}", f"--sentences={asked.sentences}"]
    shared += [f"--max-length={asked.max_length}", f"--out={asked.out.resolve()}"]
    shared += [f"--data={asked.data.resolve()}"] if asked.data else []
    tests, times = ([part for part in asked.parts if part in parts] for parts in (TESTS, gpu.PARTS))
    status = 0
    if tests:
        chosen = ["-k", " or ".join(f"test_{part}" for part in tests), f"--requests={asked.requests}"]
        command = [sys.executable, "-m", "pytest", *PYTEST, "tests/gpu", *chosen, *shared]
        command.append(f"--junitxml={asked.out.resolve() / 'checks.xml'}")
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if times:
        status = gpu.main([*shared, f"--repeats={asked.repeats}", "--parts", *times]) or status
    print(f"gpu-check: {'FAILED' if status else 'passed'}; results: {asked.out}")
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
