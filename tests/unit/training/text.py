"""Tiny parallel text for the tests of training: numbers in words."""

import gzip
from pathlib import Path

import numpy as np

from training.data.cleaning import FilterSettings
from training.data.corpora import Mixture
from training.data.corpus import CorpusSettings
from training.data.parallel_text import CorpusFiles, Pair
from training.data.token_store import EncodedPair, TokenStore, open_store, write_store
from training.data.tokenizer import TokenizerSettings

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ZAHLEN = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]


def number_pairs(count: int, seed: int = 0) -> list[Pair]:
    random = np.random.default_rng(seed)
    rows = [random.integers(10, size=random.integers(2, 9)) for _ in range(count)]
    return [
        Pair(" ".join(NUMBERS[d] for d in r), " ".join(ZAHLEN[d] for d in r), "even" if i % 2 == 0 else "odd")
        for i, r in enumerate(rows)
    ]


def write_corpus(folder: Path, pairs: list[Pair]) -> CorpusFiles:
    files = CorpusFiles(folder / "a.en.gz", folder / "a.de", folder / "a.label")
    with gzip.open(folder / "a.en.gz", "wt", encoding="utf-8") as out:
        out.writelines(p.source + "\n" for p in pairs)
    (folder / "a.de").write_text("".join(p.target + "\n" for p in pairs), encoding="utf-8")
    (folder / "a.label").write_text("".join(p.label + "\n" for p in pairs), encoding="utf-8")
    return files


def corpus_settings(files: CorpusFiles) -> CorpusSettings:
    return CorpusSettings(
        (files,),
        ("en", "de"),
        Mixture({"even": 1.0, "odd": 0.5}),
        FilterSettings(drop_duplicates=False),
        50,
        TokenizerSettings(vocab_size=295),
    )


def store_of(directory: Path, lengths: list[tuple[int, int]], labels: list[int] | None = None) -> TokenStore:
    """A store with rows of these lengths; labels are named by their numbers."""
    chosen = labels or [0] * len(lengths)
    names = tuple(str(i) for i in range(max(chosen) + 1))
    rows = (EncodedPair([4 + s % 9] * s, [4 + t % 7] * t, label) for (s, t), label in zip(lengths, chosen, strict=True))
    write_store(directory, rows, vocab_size=23, label_names=names)
    return open_store(directory)
