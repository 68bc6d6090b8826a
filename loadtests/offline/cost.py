"""Cost of a token in larger batches, and of a sentence as it gets longer: ``python -m loadtests.offline.cost``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loadtests.offline.cases import BEAMS, Case, forced_case
from loadtests.offline.measuring import Contestant, measure
from loadtests.offline.random_bundle import kept_bundle
from loadtests.offline.timing import spread
from loadtests.offline.worker import EngineSpec, Worker
from loadtests.pictures import plot_costs
from loadtests.report import machine, table, write_json
from serving.bundle.bundle import load_bundle

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_BATCH_TOKENS = 24
_LENGTHS = (10, 25, 50, 100, 150, 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.cost", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: Transformer-base with random weights")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each point (default: 5)")
    asked = parser.parse_args(arguments)
    bundle = load_bundle(asked.bundle or kept_bundle("base-random"))
    precisions = [name for name, precision in bundle.manifest.precisions.items() if "cpu" in precision.devices]
    specs = [EngineSpec("dragoman", name, bundle.directory.resolve()) for name in precisions]
    shapes = [*((batch, _BATCH_TOKENS) for batch in _BATCHES), *((1, length) for length in _LENGTHS)]
    cases = [forced_case(bundle.manifest, batch, length, beam) for beam in BEAMS for batch, length in shapes]
    with ExitStack() as stack:
        workers = {spec.variant: stack.enter_context(Worker(spec, asked.threads)) for spec in specs}
        rows = [row for case in cases for row in _rows(case, workers, asked.rounds)]
    print(table(rows))
    if asked.json:
        write_json(asked.json, {"model": bundle.manifest.name, "threads": asked.threads, "costs": rows})
    if asked.plot:
        batches = [row for row in rows if row["tokens"] == _BATCH_TOKENS]
        lone = [row for row in rows if row["tokens"] != _BATCH_TOKENS]
        plot_costs(
            asked.plot, batches, lone, f"{bundle.manifest.name}, {machine()['processor']}, {asked.threads} threads"
        )
    return 0


def _rows(case: Case, workers: Mapping[str, Worker], rounds: int) -> Iterator[dict[str, Any]]:
    measured = measure(case, {name: Contestant(worker, {}) for name, worker in workers.items()}, rounds)
    tokens = case.search.max_length
    for precision, times in measured.times.items():
        seconds = spread(times)
        yield {
            "precision": precision,
            "beam": case.search.beam,
            "batch": case.batch,
            "tokens": tokens,
            "milliseconds": seconds.median * 1e3,
            "low": seconds.low * 1e3,
            "high": seconds.high * 1e3,
            "milliseconds_per_token": seconds.median * 1e3 / (case.batch * tokens),
        }


if __name__ == "__main__":
    sys.exit(main())
