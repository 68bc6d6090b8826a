"""``dragoman-export``: checkpoint in, verified bundle out."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from pathlib import Path

from export.bundle import BundleOptions, verify_bundle, write_bundle
from export.errors import ExportError, VerificationError
from export.lexicon import LexiconSizes, build_shortlist
from export.precisions import DEFAULT_PRECISIONS, PRECISIONS, PrecisionName
from export.verify import MAX_BLEU_LOSS, Evidence
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import VerificationRecord
from serving.bundle.shortlist import Shortlist
from serving.errors import StartupError
from training import checkpoint as checkpoints
from training.data.corpora import read_corpora
from training.data.parallel_text import CorpusFiles, Pair
from training.data.tokenizer import load_tokenizer
from training.errors import TrainingError

_FEWEST_SENTENCES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with every reason on standard error."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if not asked.verify and not asked.name:
        parser.error("--name is required: the bundle is written to OUT_DIR/NAME/VERSION")
    if (asked.shortlist_source is None) != (asked.shortlist_target is None):
        parser.error("--shortlist-source and --shortlist-target are two sides of one text: give both, or neither")
    try:
        records = _verify(asked) if asked.verify else _export(asked)
    except VerificationError as error:
        print("dragoman-export: verification failed, no bundle was written:", file=sys.stderr)
        for reason in error.reasons:
            print(f"  {reason}", file=sys.stderr)
        return 1
    except (ExportError, StartupError, TrainingError, OSError) as error:
        print(f"dragoman-export: {error}", file=sys.stderr)
        return 1
    print(json.dumps({name: record.model_dump() for name, record in records.items()}, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman-export",
        description="Exports a checkpoint to OUT_DIR/NAME/VERSION and verifies it against PyTorch; or, with --verify, "
        "repeats the verification of BUNDLE against CHECKPOINT.",
        usage="dragoman-export CHECKPOINT OUT_DIR --name NAME [options]\n"
        "       dragoman-export --verify BUNDLE CHECKPOINT [options]",
    )
    parser.add_argument("first", type=Path, metavar="CHECKPOINT|BUNDLE")
    parser.add_argument("second", type=Path, metavar="OUT_DIR|CHECKPOINT")
    parser.add_argument("--verify", action="store_true", help="verify an existing bundle, write nothing")
    parser.add_argument("--name", help="name of the bundle, such as en-fr")
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
    parser.add_argument(
        "--sentences",
        type=Path,
        help=f"source sentences to verify on, one per line, plain or .gz; at least {_FEWEST_SENTENCES} "
        "(default: the validation set that the checkpoint was trained with)",
    )
    parser.add_argument("--references", type=Path, help="translations of --sentences, for BLEU")
    parser.add_argument(
        "--max-bleu-loss",
        type=float,
        default=MAX_BLEU_LOSS,
        metavar="POINTS",
        help="BLEU that int8, fp16 and a shortlist may lose against PyTorch "
        f"(default: {MAX_BLEU_LOSS}); inf accepts any loss",
    )
    parser.add_argument("--max-sentences", type=int, default=1000, help="use at most this many (default: 1000)")
    _add_shortlist_options(parser)
    return parser


def _add_shortlist_options(parser: argparse.ArgumentParser) -> None:
    sizes, group = LexiconSizes(), parser.add_argument_group("vocabulary shortlist")
    group.add_argument(
        "--shortlist",
        action="store_true",
        help="add fp32-shortlist and int8-shortlist to the bundle, which score only the target tokens that a lexicon "
        "gives for a source: faster, at a cost in BLEU that is recorded",
    )
    group.add_argument(
        "--shortlist-source",
        type=Path,
        metavar="FILE",
        help="source side of the text that the lexicon is learnt from, plain or .gz (default: the training text)",
    )
    group.add_argument("--shortlist-target", type=Path, metavar="FILE", help="its translations, line by line")
    group.add_argument(
        "--shortlist-pairs", type=int, default=100_000, metavar="N", help="how many of its pairs (default: 100000)"
    )
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


def _export(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    checkpoint = checkpoints.load(asked.first)
    options = BundleOptions(
        name=asked.name,
        version=asked.version,
        weights=asked.weights,
        precisions=asked.precisions,
        max_source_tokens=asked.max_source_tokens,
        max_target_tokens=asked.max_target_tokens,
        max_bleu_loss=asked.max_bleu_loss,
        shortlist=_shortlist(asked, checkpoint) if asked.shortlist else None,
    )
    evidence = _evidence(asked, checkpoint, options.max_source_tokens, options.max_target_tokens)
    target = write_bundle(checkpoint, asked.second, options, evidence)
    print(f"dragoman-export: wrote {target}", file=sys.stderr)
    precisions = load_bundle(target).manifest.precisions
    return {name: precision.verification for name, precision in precisions.items()}


def _shortlist(asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint) -> Shortlist:
    """Learns the lexicon from a sample of the text given, or else of the training text, mixed as in training."""
    data, weights = checkpoint.config.data, {}
    if asked.shortlist_source is not None:
        pairs = CorpusFiles(source=asked.shortlist_source, target=asked.shortlist_target).pairs()
    else:
        pairs, weights = data.mixture().seen(read_corpora(data.train)), data.weights or {}
    draw = random.Random(0).expovariate  # the smallest are a weighted sample (Efraimidis and Spirakis 2006)
    sample = nsmallest(asked.shortlist_pairs, pairs, key=lambda pair: draw(weights.get(pair.label, 1.0)))
    sources = load_tokenizer(checkpoint.source_tokenizer_bytes).encode([pair.source for pair in sample])
    targets = load_tokenizer(checkpoint.target_tokenizer_bytes).encode([pair.target for pair in sample])
    sizes = LexiconSizes(asked.shortlist_always, asked.shortlist_best)
    return build_shortlist(sources, targets, checkpoint.vocabulary, sizes)


def _verify(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    limits = load_bundle(asked.first).manifest.limits
    checkpoint = checkpoints.load(asked.second)
    evidence = _evidence(asked, checkpoint, limits.max_source_tokens, limits.max_target_tokens)
    return verify_bundle(asked.first, checkpoint, evidence, asked.max_bleu_loss)


def _evidence(
    asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint, max_source: int, max_target: int
) -> Evidence:
    """Return the first sentences that the bundle takes whole."""
    tokenizer = load_tokenizer(checkpoint.source_tokenizer_bytes)
    fitting = (pair for pair in _pairs(asked, checkpoint) if 0 < len(tokenizer.encode([pair.source])[0]) <= max_source)
    pairs = list(islice(fitting, asked.max_sentences))
    if len(pairs) < _FEWEST_SENTENCES:
        raise ExportError(
            f"there are {len(pairs)} sentences of 1 to {max_source} tokens to verify on, {_FEWEST_SENTENCES} are "
            "needed: give --sentences with more, or a higher --max-sentences"
        )
    translated = asked.sentences is None or asked.references is not None
    return Evidence([pair.source for pair in pairs], [pair.target for pair in pairs] if translated else [], max_target)


def _pairs(asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint) -> Iterator[Pair]:
    if asked.sentences is not None:
        return CorpusFiles(source=asked.sentences, target=asked.references or asked.sentences).pairs()
    data = checkpoint.config.data
    return data.mixture().seen(read_corpora(data.valid))
