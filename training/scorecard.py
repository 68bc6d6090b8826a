"""Score a checkpoint on a test set with the reference search, label by label: `python -m training.scorecard`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.checkpoint import LoadedCheckpoint, load
from training.data.parallel_text import CorpusFiles, Pair
from training.data.tokenizer import load_tokenizer
from training.decode import DecodeOptions, translate
from training.errors import TrainingError
from training.evaluation import score


def translate_texts(checkpoint: LoadedCheckpoint, texts: Sequence[str], options: DecodeOptions) -> list[str]:
    """Translate raw sentences; the best hypothesis of each."""
    ids = load_tokenizer(checkpoint.source_tokenizer_bytes).encode(texts)
    reverse = checkpoint.config.data.reverse_source
    found = translate(checkpoint.model, ids, options, reverse_source=reverse)
    return load_tokenizer(checkpoint.target_tokenizer_bytes).decode([best.tokens for best, *_ in found])


def scorecard(
    checkpoint: LoadedCheckpoint, pairs: Sequence[Pair], options: DecodeOptions, labels: Sequence[str] = ()
) -> Iterator[str]:
    """Yield one line per label with BLEU and chrF, then the metrics' signatures.

    Args:
        checkpoint: The model.
        pairs: The test set.
        options: Of the search.
        labels: Labels to score, in this order; all, if none is given.
    """
    signatures: tuple[str, ...] = ()
    for label in labels or sorted({p.label for p in pairs}):
        chosen = [p for p in pairs if p.label == label]
        texts = translate_texts(checkpoint, [p.source for p in chosen], options)
        result = score(texts, [p.target for p in chosen])
        signatures = result.signatures
        yield f"{label or 'all'}: {len(chosen)} sentences, BLEU {result.bleu:.2f}, chrF {result.chrf:.2f}"
    yield from signatures


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scorecard of a checkpoint; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.scorecard", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("labels", type=Path, nargs="?", help="a label for each line")
    parser.add_argument("--only", action="append", default=[], metavar="LABEL", help="score this label; repeatable")
    parser.add_argument("--beam", type=int, default=4)
    options = parser.parse_args(arguments)
    try:
        pairs = list(CorpusFiles(options.source, options.target, options.labels).pairs())
        checkpoint = load(options.checkpoint)
    except TrainingError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    for line in scorecard(checkpoint, pairs, DecodeOptions(beam_size=options.beam), options.only):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
