"""What a token costs in larger batches, and a sentence as it gets longer: ``python -m loadtests.offline.cost``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loadtests.offline.base_random import base_random
from loadtests.offline.cases import BEAMS, Case, forced_case
from loadtests.offline.measuring import Contestant, measure
from loadtests.offline.report import machine, table, versions, write_json
from loadtests.offline.timing import spread
from loadtests.offline.worker import EngineSpec, Worker
from serving.bundle.bundle import Bundle, load_bundle

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_BATCH_TOKENS = 24
_LENGTHS = (10, 25, 50, 100, 150, 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    asked = _parser().parse_args(arguments)
    bundle = load_bundle(asked.bundle or base_random())
    precisions = [name for name, precision in bundle.manifest.precisions.items() if "cpu" in precision.devices]
    specs = [EngineSpec("dragoman", name, bundle.directory.resolve()) for name in precisions]
    with ExitStack() as stack:
        workers = {spec.variant: stack.enter_context(Worker(spec, asked.threads)) for spec in specs}
        rows = [row for case in _cases(bundle) for row in _rows(case, workers, asked.rounds)]
    print(table(list(rows[0]), [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
                                for row in rows]))  # fmt: skip
    content = {"machine": machine(), "versions": versions(), "model": bundle.manifest.name, "threads": asked.threads}
    if asked.json:
        write_json(asked.json, {**content, "costs": rows})
    if asked.plot:
        _plot(asked.plot, rows, f"{bundle.manifest.name}, {machine()['processor']}, {asked.threads} threads")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.cost", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: Transformer-base with random weights")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each point (default: 5)")
    return parser


def _cases(bundle: Bundle) -> Iterator[Case]:
    """Batches of one length, then lone sentences of many; translations are as long as their sources."""
    for beam in BEAMS:
        yield from (forced_case(bundle.manifest, batch, _BATCH_TOKENS, beam) for batch in _BATCHES)
        yield from (forced_case(bundle.manifest, 1, length, beam) for length in _LENGTHS)


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


def _plot(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    figure.suptitle(title)
    tokens, sentences = figure.subplots(1, 2)
    for precision, beam in dict.fromkeys((row["precision"], row["beam"]) for row in rows):
        own = [row for row in rows if (row["precision"], row["beam"]) == (precision, beam)]
        label = f"{precision}, beam {beam}"
        _line(tokens, [row for row in own if row["tokens"] == _BATCH_TOKENS], "batch", "milliseconds_per_token", label)
        lone = [row for row in own if row["batch"] == 1 and row["tokens"] in _LENGTHS]
        _line(sentences, lone, "tokens", "milliseconds", label)
    tokens.set(xlabel="sentences of a batch", ylabel="ms a target token", xscale="log", yscale="log")
    tokens.set_xticks(_BATCHES, [str(batch) for batch in _BATCHES])
    sentences.set(xlabel="source and target tokens", ylabel="ms a sentence", xlim=(0, None), ylim=(0, None))
    for axes in (tokens, sentences):
        axes.grid(alpha=0.3)
    figure.legend(*tokens.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _line(axes: Any, rows: Sequence[Mapping[str, Any]], x: str, y: str, label: str) -> None:
    axes.plot([row[x] for row in rows], np.array([row[y] for row in rows]), marker="o", label=label)


if __name__ == "__main__":
    sys.exit(main())
