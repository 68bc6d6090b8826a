"""The engine beside its rivals, on the same weights: ``python -m loadtests.offline.compare``.

Every engine runs in a process of its own, and they take turns. The rivals are CTranslate2 in each of its compute types
and, where ``transformers`` is installed, Hugging Face ``generate``; all have the same number of threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import ctranslate2

from loadtests.offline.cases import BATCHES, QUICK_BATCHES, Case, corpus_case, random_cases, real_cases
from loadtests.offline.corpus import bleu, read_corpus, token_ids
from loadtests.offline.ctranslate2_model import ConversionError, convert
from loadtests.offline.measuring import Contestant, measure, tuned
from loadtests.offline.random_bundle import SHAPES, kept_bundle
from loadtests.offline.searches import SHORTLIST
from loadtests.offline.worker import EngineSpec, Worker
from loadtests.pictures import plot_ratios
from loadtests.report import machine, table, versions, write_json
from serving.bundle.bundle import Bundle, load_bundle
from serving.errors import StartupError

_SHARED_OUT = 32  # sentences of a batch
_FEWEST_EQUAL = 0.97  # of real sentences, where both engines compute in float32; less is a wrong conversion
_COLUMNS = {
    **{name: f"{{{name}}}" for name in ("model", "precision", "sentences", "batch", "beam")},
    "ms": "{ms:.1f}", "rival": "{rival}", "rival ms": "{rival_ms:.1f}", "ratio": "{ratio:.2f}",
    "quartiles": "{ratio_quartiles[0]:.2f}-{ratio_quartiles[1]:.2f}",
    "tokens/s": "{tokens_per_second:.0f}", "equal": "{equal_ratio:.1%}",
}  # fmt: skip
_ENGINE_COLUMNS = {
    "model": "{model}", "engine": "{engine}", "start-up s": "{start_seconds:.2f}", "peak memory MB": "{peak_mb:.0f}"
}  # fmt: skip

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """Settings of a comparison."""

    threads: int
    rounds: int
    shortlist: Literal["both", "ours"] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if the engines do not compute the same."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.compare", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, help="NAME/VERSION of a Transformer, compared on real sentences")
    add("--data", type=Path, metavar="CORPORA|PREFIX", help="folder of the corpora, whose multi30k/test_2016_flickr is "
        "taken, or the path of two files up to .en.gz")  # fmt: skip
    add("--quick", action="store_true", help="only shapes with random weights, batch 1 and 32, beam 1 and 4; needs no "
        "bundle and no data")  # fmt: skip
    add("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="NAME", help="random weights in these "
        f"shapes only, of {', '.join(SHAPES)}")  # fmt: skip
    add(
        "--shortlist",
        nargs="?",
        choices=("both", "ours"),
        const="both",
        help="only precisions with a shortlist, beside CTranslate2 with the same one, or with none (ours)",
    )
    add("--json", type=Path, metavar="FILE")
    add("--plot", type=Path, metavar="PNG")
    add("--threads", type=int, default=2, help="threads of every engine (default: 2)")
    add("--rounds", type=int, default=7, help="measurements of each engine per case (default: 7)")
    asked = parser.parse_args(arguments)
    if not asked.quick and not (asked.bundle and asked.data):
        parser.error("--bundle and --data are needed, or --quick")
    setting = Setting(asked.threads, asked.rounds, asked.shortlist)
    try:
        compared = [compare_random(name, setting, quick=asked.quick) for name in asked.shapes]
        if not asked.quick:
            compared.append(compare_real(load_bundle(asked.bundle), asked.data, setting))
        cases, engines = (list(chain(*rows)) for rows in zip(*compared, strict=True))
    except (ConversionError, StartupError, OSError, RuntimeError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    write(cases, engines, setting, asked.json, asked.plot)
    return _verdict(cases)


def compare_random(name: str, setting: Setting, *, quick: bool) -> tuple[Rows, Rows]:
    """Compare random weights in a usual shape; return rows by case and precision, and rows by engine."""
    bundle = load_bundle(kept_bundle(name))
    cases = random_cases(bundle.manifest, QUICK_BATCHES if quick else BATCHES)
    with _workers(bundle, setting, huggingface=not quick) as workers:
        return _measured(cases, workers, setting), _engines(bundle, workers)


def compare_real(bundle: Bundle, data: Path, setting: Setting) -> tuple[Rows, Rows]:
    """Compare a bundle on real sentences, by length and all at once; return rows as :func:`compare_random` does."""
    manifest = bundle.manifest
    corpus = read_corpus(data, manifest.languages)
    sources = token_ids(bundle, corpus.sources)
    case = corpus_case(manifest, sources)
    with _workers(bundle, setting, huggingface=True) as workers:
        rows = _measured(real_cases(manifest, sources), workers, setting)
        rivals = [worker for worker in workers if worker.spec.kind == "ctranslate2"]
        ours = {str(worker.spec): Contestant(worker, {}) for worker in workers if worker.spec.kind == "dragoman"}
        measured = measure(case, {**ours, **tuned(rivals, case.batches[0], case.search)}, setting.rounds)
        scores = {name: bleu(bundle, texts, corpus.references) for name, texts in measured.outputs.items()}
        rows += [{**r, "bleu": scores[r["engine"]], "rival_bleu": scores[r["rival"]]} for r in measured.rows()]
        return rows, _engines(bundle, workers)


def _measured(cases: Iterable[Case], workers: Sequence[Worker], setting: Setting) -> Rows:
    """Measure cases; workers with several batches at a time compete where a batch is large enough to be shared out."""
    rows: Rows = []
    for case in cases:
        share = {"max_batch_size": -(-case.batch // setting.threads)}
        contestants = {
            str(worker.spec): Contestant(worker, share if worker.spec.parallel else {})
            for worker in workers
            if case.batch >= _SHARED_OUT or not worker.spec.parallel
        }
        rows += measure(case, contestants, setting.rounds).rows()
        print(f"compare: {case.model}, {case.sentences}, batch {case.batch}, beam {case.search.beam}", file=sys.stderr)
    return rows


@contextmanager
def _workers(bundle: Bundle, setting: Setting, *, huggingface: bool) -> Iterator[list[Worker]]:
    """Start engines on a bundle: one batch at a time, and one per thread."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        specs = list(_specs(bundle, Path(folder) / "ctranslate2", setting))
        if huggingface and not setting.shortlist and find_spec("transformers"):
            from loadtests.offline.huggingface_engine import can_build

            specs += [EngineSpec("huggingface", "float32", bundle.directory.resolve())] if can_build(bundle) else []
        yield [stack.enter_context(Worker(spec, setting.threads)) for spec in specs]


def _specs(bundle: Bundle, converted: Path, setting: Setting) -> Iterator[EngineSpec]:
    convert(bundle.directory, converted)
    # A model saved in float32 keeps what int8 leaves alone in float32: int8_float32 is the same again.
    supported = sorted(ctranslate2.get_supported_compute_types("cpu") - {"int8_float32"})
    for parallel in ("", f"*{setting.threads}") if setting.threads > 1 else ("",):
        for name, precision in bundle.manifest.precisions.items():
            if "cpu" in precision.devices and (precision.shortlist is None) == (setting.shortlist is None):
                yield EngineSpec("dragoman", f"{name}{parallel}", bundle.directory.resolve())
        ending = f"{SHORTLIST if setting.shortlist == 'both' else ''}{parallel}"
        yield from (EngineSpec("ctranslate2", f"{one}{ending}", converted) for one in supported)


def _engines(bundle: Bundle, workers: Sequence[Worker]) -> Rows:
    """Return start-up time and peak memory of each engine, once all cases are done."""
    return [
        {
            "model": bundle.manifest.name,
            "engine": str(worker.spec),
            "start_seconds": worker.start_seconds,
            "peak_bytes": worker.memory().peak,
        }
        for worker in workers
        if not worker.spec.parallel
    ]


def write(cases: Rows, engines: Rows, setting: Setting, json: Path | None, plot: Path | None) -> None:
    """Print the tables; write the files that were asked for."""
    where = machine()
    title = f"{where['processor']} ({', '.join(where['instructions'])}), {setting.threads} threads"
    shown = [{**row, "ms": row["seconds"] * 1e3, "rival_ms": row["rival_seconds"] * 1e3} for row in cases]
    memory = [{**row, "peak_mb": row["peak_bytes"] / 1e6} for row in engines]
    print(f"{title}; {versions()}\n\n{table(shown, _COLUMNS)}\n\n{table(memory, _ENGINE_COLUMNS)}")
    for row in cases:
        if row.get("bleu") is not None:
            rival = f"{row['rival']}: {row['rival_bleu']:.2f}"
            print(f"\n{row['model']}, BLEU of {row['precision']}: {row['bleu']:.2f}, of {rival}")
    if json:
        write_json(json, {**asdict(setting), "cases": cases, "engines": engines})
    if plot:
        plot_ratios(plot, cases, title)


def _verdict(cases: Rows) -> int:
    for row in cases:
        if row["sentences"] == "all" and row["precision"] == "fp32" and row["equal_ratio"] < _FEWEST_EQUAL:
            print(
                f"compare: {row['rival']} gives {row['equal_ratio']:.1%} of the translations that dragoman/fp32 gives, "
                f"at least {_FEWEST_EQUAL:.0%} are expected: the conversion or the search differs",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
