"""``dragoman-export``: checkpoint in, verified bundle out."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from pathlib import Path

from export.bundle import verify_bundle, write_bundle
from export.command_line import add_bundle_arguments, add_shortlist_sizes, bundle_options, fitting, report
from export.lexicon import LexiconSizes, build_shortlist
from export.trained_model import TrainedModel
from export.verify import Evidence
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import VerificationRecord
from serving.bundle.shortlist import Shortlist
from training import checkpoint as checkpoints
from training.data.corpora import read_corpora
from training.data.parallel_text import CorpusFiles, Pair

_FEWEST_SENTENCES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 with every reason on standard error."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if not asked.verify and not asked.name:
        parser.error("--name is required: the bundle is written to OUT_DIR/NAME/VERSION")
    if (asked.shortlist_source is None) != (asked.shortlist_target is None):
        parser.error("--shortlist-source and --shortlist-target are two sides of one text: give both, or neither")
    return report("dragoman-export", lambda: _verify(asked) if asked.verify else _export(asked))


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
    add_bundle_arguments(parser)
    parser.add_argument(
        "--sentences",
        type=Path,
        help=f"source sentences to verify on, one per line, plain or .gz; at least {_FEWEST_SENTENCES} "
        "(default: the validation set that the checkpoint was trained with)",
    )
    _add_shortlist_options(parser)
    return parser


def _add_shortlist_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("vocabulary shortlist")
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
    add_shortlist_sizes(group)


def _export(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    checkpoint = checkpoints.load(asked.first)
    trained = TrainedModel.of(checkpoint)
    options = bundle_options(asked, _shortlist(asked, checkpoint, trained) if asked.shortlist else None)
    evidence = _evidence(asked, checkpoint, trained, (options.max_source_tokens, options.max_target_tokens))
    target = write_bundle(trained, asked.second, options, evidence)
    print(f"dragoman-export: wrote {target}", file=sys.stderr)
    precisions = load_bundle(target).manifest.precisions
    return {name: precision.verification for name, precision in precisions.items()}


def _shortlist(asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint, trained: TrainedModel) -> Shortlist:
    """Learn the lexicon from a sample of the text given, or else of the training text, mixed as in training."""
    data, weights = checkpoint.config.data, {}
    if asked.shortlist_source is not None:
        pairs = CorpusFiles(source=asked.shortlist_source, target=asked.shortlist_target).pairs()
    else:
        pairs, weights = data.mixture().seen(read_corpora(data.train)), data.weights or {}
    draw = random.Random(0).expovariate  # the smallest are a weighted sample (Efraimidis and Spirakis 2006)
    sample = nsmallest(asked.shortlist_pairs, pairs, key=lambda pair: draw(weights.get(pair.label, 1.0)))
    sources = trained.encode([pair.source for pair in sample])
    targets = trained.encode_targets([pair.target for pair in sample])
    sizes = LexiconSizes(asked.shortlist_always, asked.shortlist_best)
    return build_shortlist(sources, targets, trained.vocabulary, sizes)


def _verify(asked: argparse.Namespace) -> dict[str, VerificationRecord]:
    limits = load_bundle(asked.first).manifest.limits
    checkpoint = checkpoints.load(asked.second)
    trained = TrainedModel.of(checkpoint)
    evidence = _evidence(asked, checkpoint, trained, (limits.max_source_tokens, limits.max_target_tokens))
    return verify_bundle(asked.first, trained, evidence, asked.max_bleu_loss)


def _evidence(
    asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint, trained: TrainedModel, limits: tuple[int, int]
) -> Evidence:
    translated = asked.sentences is None or asked.references is not None
    counts = _FEWEST_SENTENCES, asked.max_sentences
    return fitting(trained, _pairs(asked, checkpoint), limits, sentences=counts, translated=translated)


def _pairs(asked: argparse.Namespace, checkpoint: checkpoints.LoadedCheckpoint) -> Iterator[Pair]:
    if asked.sentences is not None:
        return CorpusFiles(source=asked.sentences, target=asked.references or asked.sentences).pairs()
    data = checkpoint.config.data
    return data.mixture().seen(read_corpora(data.valid))
