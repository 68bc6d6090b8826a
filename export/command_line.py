"""Arguments, choice of sentences and errors of the commands that write bundles."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path

from export.bundle import BundleOptions
from export.errors import ExportError, VerificationError
from export.lexicon import LexiconSizes
from export.precisions import DEFAULT_PRECISIONS, PRECISIONS, PrecisionName
from export.trained_model import TrainedModel
from export.verify import MAX_BLEU_LOSS, Evidence
from serving.bundle.manifest import LanguagePair, VerificationRecord
from serving.bundle.shortlist import Shortlist
from serving.errors import StartupError
from training.data.parallel_text import Pair
from training.errors import TrainingError


def add_bundle_arguments(parser: argparse.ArgumentParser, max_sentences: int = 1000) -> None:
    """Add the options of any bundle, its name excepted; ``max_sentences`` is the default of its option."""
    parser.add_argument("--version", type=int, default=1, help="version of the bundle (default: 1)")
    parser.add_argument(
        "--weights",
        choices=("fp32", "int8"),
        default="fp32",
        help="storage of the matrices; int8 rounds them per output channel and is multiplied out at load",
    )
    parser.add_argument(
        "--precisions",
        type=_precisions,
        default=DEFAULT_PRECISIONS,
        metavar="LIST",
        help=f"what the bundle can be served in, of {','.join(PRECISIONS)} "
        f"(default: {','.join(DEFAULT_PRECISIONS)}); int8 runs on CPUs only, fp16 on GPUs only",
    )
    parser.add_argument("--max-source-tokens", type=int, default=128, help="default: 128")
    parser.add_argument("--max-target-tokens", type=int, default=256, help="default: 256")
    parser.add_argument("--references", type=Path, help="translations of --sentences, for BLEU")
    parser.add_argument(
        "--max-bleu-loss",
        type=float,
        default=MAX_BLEU_LOSS,
        metavar="POINTS",
        help="BLEU that int8, fp16 and a shortlist may lose against PyTorch "
        f"(default: {MAX_BLEU_LOSS}); inf accepts any loss",
    )
    parser.add_argument(
        "--max-sentences", type=int, default=max_sentences, help=f"use at most this many (default: {max_sentences})"
    )


def add_shortlist_sizes(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how large a lexicon becomes."""
    sizes = LexiconSizes()
    group.add_argument(
        "--shortlist-always",
        type=int,
        default=sizes.always,
        metavar="N",
        help=f"frequent target tokens that every sentence may use (default: {sizes.always})",
    )
    group.add_argument(
        "--shortlist-best",
        type=int,
        default=sizes.best,
        metavar="N",
        help=f"translations of each source token (default: {sizes.best})",
    )


def _precisions(text: str) -> tuple[PrecisionName, ...]:
    asked = text.split(",")
    if unknown := [name for name in asked if name not in PRECISIONS]:
        raise argparse.ArgumentTypeError(f"there is no precision {unknown[0]!r}: use any of {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in asked)


def bundle_options(asked: argparse.Namespace, shortlist: Shortlist | None = None) -> BundleOptions:
    """Return the options of a bundle."""
    return BundleOptions(
        name=asked.name,
        version=asked.version,
        weights=asked.weights,
        precisions=asked.precisions,
        max_source_tokens=asked.max_source_tokens,
        max_target_tokens=asked.max_target_tokens,
        max_bleu_loss=asked.max_bleu_loss,
        shortlist=shortlist,
    )


def fitting(
    trained: TrainedModel,
    pairs: Iterable[Pair],
    limits: tuple[int, int],
    *,
    sentences: tuple[int, int],
    translated: bool,
    languages: Sequence[LanguagePair] = (),
) -> Evidence:
    """Take the first sentences that a bundle takes whole.

    Args:
        trained: Has the tokenizer.
        pairs: To choose from.
        limits: Source and target tokens at most.
        sentences: How many are needed, and how many are enough.
        translated: Whether the targets of the pairs are translations.
        languages: That the sentences are translated between, in turn; none if the model need not be told.

    Raises:
        ExportError: There are too few.
    """
    (max_source, max_target), (fewest, most) = limits, sentences
    short = (pair for pair in pairs if 0 < len(trained.encode([pair.source])[0]) <= max_source)
    found = list(islice(short, most))
    if len(found) < fewest:
        raise ExportError(
            f"there are {len(found)} sentences of 1 to {max_source} tokens to verify on, {fewest} are "
            "needed: give --sentences with more, or a higher --max-sentences"
        )
    sources, targets = [pair.source for pair in found], [pair.target for pair in found] if translated else []
    return Evidence(sources, targets, max_target, list(islice(cycle(languages), len(found))))


def report(command: str, work: Callable[[], dict[str, VerificationRecord]]) -> int:
    """Do the work and print its records; returns 0, or 1 with every reason on standard error."""
    try:
        records = work()
    except VerificationError as error:
        print(f"{command}: verification failed, no bundle was written:", file=sys.stderr)
        for reason in error.reasons:
            print(f"  {reason}", file=sys.stderr)
        return 1
    except (ExportError, StartupError, TrainingError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({name: record.model_dump() for name, record in records.items()}, indent=1))
    return 0
