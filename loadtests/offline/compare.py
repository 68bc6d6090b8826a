"""The engine beside its rivals, on the same weights: ``python -m loadtests.offline.compare``.

Every engine runs in a process of its own, and they take turns. The rivals are CTranslate2 in each of its compute types
and, where ``transformers`` is installed, Hugging Face ``generate``; all have the same number of threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ctranslate2

from loadtests.offline.base_random import base_random
from loadtests.offline.cases import BATCHES, QUICK_BATCHES, Case, corpus_case, random_cases, real_cases
from loadtests.offline.corpus import Corpus, bleu, read_corpus, token_ids
from loadtests.offline.ctranslate2_model import ConversionError, convert
from loadtests.offline.measuring import Contestant, measure, tuned
from loadtests.offline.report import cases_table, engines_table, machine, plot_ratios, versions, write_json
from loadtests.offline.searches import SHORTLIST
from loadtests.offline.worker import EngineSpec, Worker
from serving.bundle.bundle import Bundle, load_bundle
from serving.errors import StartupError

_SHARED_OUT = 32  # sentences of a batch
_FEWEST_EQUAL = 0.97  # of real sentences, where both engines compute in float32; less is a wrong conversion


@dataclass(frozen=True)
class Setting:
    """How is measured."""

    threads: int
    rounds: int
    shortlist: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if the engines do not compute the same."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if not asked.quick and not (asked.bundle and asked.data):
        parser.error("--bundle and --data are needed, or --quick")
    setting = Setting(asked.threads, asked.rounds, asked.shortlist)
    try:
        found = [compare_random(setting, quick=asked.quick)]
        if not asked.quick:
            found.append(compare_real(load_bundle(asked.bundle), asked.data, setting))
    except (ConversionError, StartupError, OSError, RuntimeError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    cases, engines = ([row for rows in kind for row in rows] for kind in zip(*found, strict=True))
    write(cases, engines, setting, asked.json, asked.plot)
    return _verdict(cases)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.compare", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="NAME/VERSION of a Transformer, compared on real sentences")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="CORPORA|PREFIX",
        help="the folder of the corpora, of which multi30k/test_2016_flickr is taken; or what comes before .en.gz",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only Transformer-base with random weights, batch 1 and 32, beam 1 and 4; needs no bundle and no data",
    )
    parser.add_argument(
        "--shortlist",
        action="store_true",
        help="the precisions with a shortlist only, beside CTranslate2 with the same lexicon",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--threads", type=int, default=2, help="of every engine (default: 2)")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each engine a case (default: 7)")
    return parser


Rows = list[dict[str, Any]]


def compare_random(setting: Setting, *, quick: bool) -> tuple[Rows, Rows]:
    """Transformer-base with random weights; returns a row for each case and precision, and one for each engine."""
    bundle = load_bundle(base_random())
    manifest = bundle.manifest
    with (
        _workers(bundle, setting, huggingface=not quick) as workers,
        _workers(bundle, setting, batches_at_a_time=setting.threads) as more,
    ):
        cases = list(random_cases(manifest, QUICK_BATCHES if quick else BATCHES))
        return _measured(cases, workers, more, setting), _engines(manifest.name, workers)


def compare_real(bundle: Bundle, data: Path, setting: Setting) -> tuple[Rows, Rows]:
    """A bundle on real sentences, by length and as a whole; returns rows as :func:`compare_random` does."""
    manifest = bundle.manifest
    corpus = read_corpus(data, manifest.source_language, manifest.target_language)
    sources = token_ids(bundle, corpus.sources)
    with (
        _workers(bundle, setting, huggingface=True) as workers,
        _workers(bundle, setting, batches_at_a_time=setting.threads) as more,
    ):
        rows = _measured(list(real_cases(manifest, sources)), workers, more, setting)
        rows += _corpus(bundle, corpus, corpus_case(manifest, sources), {**workers, **more}, setting)
        return rows, _engines(manifest.name, workers)


def _corpus(bundle: Bundle, corpus: Corpus, case: Case, workers: Mapping[str, Worker], setting: Setting) -> Rows:
    rivals = {name: worker for name, worker in workers.items() if worker.spec.kind == "ctranslate2"}
    ours = {name: Contestant(worker, {}) for name, worker in workers.items() if worker.spec.kind == "dragoman"}
    measured = measure(case, {**ours, **tuned(rivals, case.batches[0], case.search)}, setting.rounds)
    scores = {name: bleu(bundle, rows, corpus.references) for name, rows in measured.outputs.items()}
    return [{**row, "bleu": scores[row["engine"]], "rival_bleu": scores[row["rival"]]} for row in measured.rows()]


def _measured(
    cases: Sequence[Case], workers: Mapping[str, Worker], more: Mapping[str, Worker], setting: Setting
) -> Rows:
    """Measures cases; ``more``, which share batches out, compete where a batch is large enough for that."""
    rows: Rows = []
    for case in cases:
        contestants = {name: Contestant(worker, {}) for name, worker in workers.items()}
        if case.batch >= _SHARED_OUT:
            share = {"max_batch_size": -(-case.batch // setting.threads)}
            contestants |= {name: Contestant(worker, share) for name, worker in more.items() if name not in workers}
        rows += measure(case, contestants, setting.rounds).rows()
        print(f"compare: {case.model}, {case.sentences}, batch {case.batch}, beam {case.search.beam}", file=sys.stderr)
    return rows


@contextmanager
def _workers(
    bundle: Bundle, setting: Setting, *, batches_at_a_time: int = 1, huggingface: bool = False
) -> Iterator[dict[str, Worker]]:
    """Engines on a bundle, by their names, each with so many batches or workers that share the threads."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        specs = list(_specs(bundle, Path(folder), batches_at_a_time, setting.shortlist))
        if huggingface and not setting.shortlist:
            specs += _huggingface(bundle)
        yield {str(spec): stack.enter_context(Worker(spec, setting.threads)) for spec in specs}


def _specs(bundle: Bundle, folder: Path, batches_at_a_time: int, shortlist: bool) -> Iterator[EngineSpec]:
    converted = folder / "ctranslate2"
    convert(bundle.directory, converted)
    # A model saved in float32 keeps what int8 leaves alone in float32: int8_float32 is the same again.
    supported = sorted(ctranslate2.get_supported_compute_types("cpu") - {"int8_float32"})
    ending = (SHORTLIST if shortlist else "", f"*{batches_at_a_time}" if batches_at_a_time > 1 else "")
    for name, precision in bundle.manifest.precisions.items():
        if "cpu" in precision.devices and (precision.shortlist is not None) == shortlist:
            yield EngineSpec("dragoman", f"{name}{ending[1]}", bundle.directory.resolve())
    yield from (EngineSpec("ctranslate2", f"{one}{''.join(ending)}", converted) for one in supported)


def _huggingface(bundle: Bundle) -> list[EngineSpec]:
    if find_spec("transformers") is None:
        return []
    from loadtests.offline.huggingface_engine import can_build

    return [EngineSpec("huggingface", "float32", bundle.directory.resolve())] if can_build(bundle) else []


def _engines(model: str, workers: Mapping[str, Worker]) -> Rows:
    """Start-up and memory of each, once all cases are done."""
    return [
        {"model": model, "engine": name, "start_seconds": worker.start_seconds, "peak_bytes": worker.memory().peak}
        for name, worker in workers.items()
    ]


def write(cases: Rows, engines: Rows, setting: Setting, json: Path | None, plot: Path | None) -> None:
    """Prints the tables; writes what is asked for."""
    where, with_what = machine(), versions()
    title = f"{where['processor']} ({', '.join(where['instructions'])}), {setting.threads} threads"
    print(f"{title}; {with_what}\n\n{cases_table(cases)}\n\n{engines_table(engines)}")
    for row in cases:
        if row.get("bleu") is not None:
            rival = f"{row['rival']}: {row['rival_bleu']:.2f}"
            print(f"\n{row['model']}, BLEU of {row['precision']}: {row['bleu']:.2f}, of {rival}")
    if json:
        content = {"machine": where, "versions": with_what, "threads": setting.threads}
        write_json(json, {**content, "cases": cases, "engines": engines})
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
