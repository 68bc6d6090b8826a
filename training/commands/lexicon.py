"""``dragoman-train lexicon``: write the words of a corpus that translate each other, as a corpus of their own."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

from training.config import load_config
from training.data.corpus import clean_corpus, sample_pairs
from training.data.lexicon import word_pairs
from training.data.parallel_text import Pair
from training.errors import DataError

_LOG = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add(
        "config",
        type=Path,
        help="YAML configuration file of a training run; its data are read, weighted as in training",
    )
    add("out", type=Path, help="file to write, for data.train: - {tsv: FILE, name: lexicon}")
    add("overrides", nargs="*", metavar="key=value", help="such as cache_dir=cache")
    add("--pairs", type=int, default=1_000_000, help="sentences to look at, at most (default: 1000000)")


def run(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        TrainingError: If the configuration is wrong, or its corpus cannot be read or has no such words.
    """
    config = load_config(options.config, options.overrides)
    settings = config.corpus()
    text = clean_corpus(settings, config.cache_dir or config.run_dir / "cache")
    copies = settings.mixture.copies(text.report.labels)
    found = word_pairs(sample_pairs(text.pairs(), copies, options.pairs, config.seed))
    if not found:
        raise DataError("no two words of the corpus are seen together often enough; give more text, or raise --pairs.")
    write_lexicon(found, options.out)
    _LOG.info("%d words and their translations in %s", len(found), options.out)


def write_lexicon(pairs: Iterable[Pair], path: Path) -> None:
    """Write each pair twice, tab-separated: as it is, and with a capital and a full stop, as words stand alone."""
    forms = (
        form for pair in pairs for form in (pair, Pair(_sentence(pair.source), _sentence(pair.target), pair.label))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{form.source}\t{form.target}\n" for form in forms), encoding="utf-8")


def _sentence(word: str) -> str:
    return f"{word[0].upper()}{word[1:]}."
