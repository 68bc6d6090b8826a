"""``dragoman-train evaluate``: scores of a checkpoint, or of translations in a file, with what lies behind them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from training.checkpoint import LoadedCheckpoint, load
from training.data.parallel_text import CorpusFiles, Pair, read_lines
from training.data.tokenizer import load_tokenizer
from training.decode import DecodeOptions
from training.error_analysis import Error, copy_rate, error_sample, length_buckets, unknown_rate
from training.errors import DataError
from training.translation import translate_texts

METRICS: dict[str, type[Metric]] = {"BLEU": BLEU, "chrF": CHRF, "TER": TER}
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class System:
    """Something that translates: its name, its translations of the test set, and its checkpoint if it is one."""

    name: str
    translations: Sequence[str]
    checkpoint: LoadedCheckpoint | None = None


@dataclass(frozen=True)
class PartScores:
    """Scores of a part of a test set, 0 to 100 (TER may be higher; there lower is better)."""

    sentences: int
    scores: dict[str, float]

    def __str__(self) -> str:
        return f"{self.sentences} sentences, " + ", ".join(f"{name} {score:.2f}" for name, score in self.scores.items())


@dataclass(frozen=True)
class Comparison:
    """Paired bootstrap (Koehn 2004) of one metric: both scores, and the chance of such a difference between equals."""

    score: float
    other: float
    p_value: float
    signature: str


@dataclass(frozen=True)
class Report:
    """All that ``evaluate`` finds out about a system.

    Attributes:
        system: Its name.
        whole: Scores of the test set.
        signatures: How sacrebleu computed each metric, to be quoted beside it.
        labels: Scores by label, if the test set has any.
        lengths: Scores by the number of words in the source.
        rates: Shares, 0 to 1: of unknown tokens and copied words.
        against: Name of the other system, and the comparison by metric.
        errors: Some poor translations.
    """

    system: str
    whole: PartScores
    signatures: dict[str, str]
    labels: dict[str, PartScores]
    lengths: dict[str, PartScores]
    rates: dict[str, float]
    against: tuple[str, dict[str, Comparison]] | None
    errors: list[Error]

    def lines(self) -> list[str]:
        """Return the report as plain text."""
        lines = [f"{self.system}: {self.whole}", *(f"  {signature}" for signature in self.signatures.values())]
        for title, parts in (("by label", self.labels), ("by length of the source", self.lengths)):
            lines += [f"{title}:"] if parts else []
            lines += [f"  {name}: {part}" for name, part in parts.items()]
        lines += [f"{name}: {100 * rate:.2f} %" for name, rate in self.rates.items()]
        if self.against is not None:
            lines.append(f"against {self.against[0]}, paired bootstrap:")
            lines += [
                f"  {name}: {c.score:.2f} against {c.other:.2f}, p = {c.p_value:.4f}  ({c.signature})"
                for name, c in self.against[1].items()
            ]
        return [*lines, *(["some errors:"] if self.errors else []), *map(str, self.errors)]


def part_scores(pairs: Sequence[Pair], translations: Sequence[str], rows: Sequence[int]) -> PartScores:
    """Score some sentences of a test set by every metric, one reference each."""
    texts, references = [translations[i] for i in rows], [pairs[i].target for i in rows]
    found = {name: metric().corpus_score(texts, [references]).score for name, metric in METRICS.items()}
    return PartScores(len(rows), found)


def compare(pairs: Sequence[Pair], system: System, other: System) -> dict[str, Comparison]:
    """Test whether two systems differ, by paired bootstrap with sacrebleu's seed (SACREBLEU_SEED, 12345)."""
    references = [[pair.target for pair in pairs]]
    metrics = {name: metric(references=references) for name, metric in METRICS.items()}  # type: ignore[call-arg]
    named: list[tuple[str, Sequence[str]]] = [("other", other.translations), ("system", system.translations)]
    signatures, found = PairedTest(named, metrics, None, test_type="bs", n_samples=BOOTSTRAP_SAMPLES)()
    comparisons = {}
    # Of the names of its results, which say `chrF2`, the first is that of the systems.
    for name, spelt in zip(METRICS, list(found)[1:], strict=True):
        theirs, ours = cast("list[Result]", found[spelt])
        # No difference at all, where resampling finds none either, would come out as a sure one.
        p_value = 1.0 if ours.score == theirs.score else float(ours.p_value or 0.0)
        comparisons[name] = Comparison(ours.score, theirs.score, p_value, str(signatures[spelt]))
    return comparisons


def evaluate(pairs: Sequence[Pair], system: System, other: System | None = None, samples: int = 0) -> Report:
    """Score a system on a test set, and look at its errors."""
    sources = [pair.source for pair in pairs]
    labels = sorted({pair.label for pair in pairs} - {""})
    by_label = {label: [i for i, pair in enumerate(pairs) if pair.label == label] for label in labels}
    rates = {
        "copied words in translations": copy_rate(sources, system.translations),
        "copied words in references": copy_rate(sources, [pair.target for pair in pairs]),
        "translations equal to their source": sum(map(str.__eq__, sources, system.translations)) / len(pairs),
    }
    if system.checkpoint is not None:
        source = load_tokenizer(system.checkpoint.source_tokenizer_bytes)
        target = load_tokenizer(system.checkpoint.target_tokenizer_bytes)
        rates["unknown tokens in sources"] = unknown_rate(source, sources)
        rates["unknown tokens in references"] = unknown_rate(target, [pair.target for pair in pairs])
        rates["unknown tokens in translations"] = unknown_rate(target, system.translations)
    return Report(
        system=system.name,
        whole=part_scores(pairs, system.translations, range(len(pairs))),
        signatures={name: str(_signature(metric)) for name, metric in METRICS.items()},
        labels={label: part_scores(pairs, system.translations, rows) for label, rows in by_label.items()},
        lengths={name: part_scores(pairs, system.translations, rows) for name, rows in length_buckets(sources).items()},
        rates=rates,
        against=None if other is None else (other.name, compare(pairs, system, other)),
        errors=error_sample(pairs, system.translations, samples),
    )


def _signature(metric: type[Metric]) -> Any:
    used = metric()
    used.corpus_score(["a"], [["a"]])  # only then does it know the number of references
    return used.get_signature()


def read_system(path: Path, pairs: Sequence[Pair], options: DecodeOptions) -> System:
    """Translate the test set with a checkpoint (``*.ckpt``), or read translations, one per line, from any other file.

    Raises:
        DataError: If there is not one translation for each sentence.
        CheckpointError: If the checkpoint cannot be read.
    """
    if path.suffix == ".ckpt":
        checkpoint = load(path)
        return System(str(path), translate_texts(checkpoint, [pair.source for pair in pairs], options), checkpoint)
    translations = list(read_lines(path))
    if len(translations) != len(pairs):
        raise DataError(f"{path} has {len(translations)} translations, but the test set has {len(pairs)} sentences")
    return System(str(path), translations)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("system", type=Path, help="checkpoint, or a file with one translation per line")
    parser.add_argument("source", type=Path, help="sentences of the test set, one per line")
    parser.add_argument("target", type=Path, help="their translations by a person")
    parser.add_argument("labels", type=Path, nargs="?", help="a label for each line")
    parser.add_argument("--only", action="append", default=[], metavar="LABEL", help="score this label; repeatable")
    parser.add_argument("--against", type=Path, metavar="SYSTEM", help="another system, for a paired bootstrap")
    parser.add_argument("--beam", type=int, default=4, metavar="N", help="beam size; 1 is greedy (default: 4)")
    parser.add_argument("--samples", type=int, default=10, metavar="N", help="poor translations to show (default: 10)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the translations, one per line")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    pairs = list(CorpusFiles(options.source, options.target, options.labels).pairs())
    if options.only:
        pairs = [pair for pair in pairs if pair.label in options.only]
        if not pairs:
            raise DataError(f"{options.labels} has none of the labels {', '.join(options.only)}")
    search = DecodeOptions(beam_size=options.beam)
    system = read_system(options.system, pairs, search)
    other = None if options.against is None else read_system(options.against, pairs, search)
    if options.write is not None:
        options.write.write_text("".join(f"{text}\n" for text in system.translations), encoding="utf-8")
    report = evaluate(pairs, system, other, options.samples)
    text = json.dumps(asdict(report), ensure_ascii=False) if options.json else "\n".join(report.lines())
    sys.stdout.write(text + "\n")
