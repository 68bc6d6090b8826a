"""Kinds of errors that a system makes: by length of the source, words it does not know or only copies, and samples."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.chrf import CHRF

from training.data.parallel_text import Pair
from training.data.tokenizer import Tokenizer

LENGTHS = (5, 10, 15, 20, 30, 40, 60)
WORD = re.compile(r"\w+")


def length_buckets(sources: Sequence[str]) -> dict[str, list[int]]:
    """Return indices of sentences by the number of words in their source; only lengths that occur."""
    borders = [0, *LENGTHS]
    buckets = {f"{low + 1}-{high} words": list[int]() for low, high in zip(borders, LENGTHS, strict=False)}
    buckets[f"over {LENGTHS[-1]} words"] = []
    names = list(buckets)
    for index, source in enumerate(sources):
        words = len(source.split())
        buckets[names[sum(words > high for high in LENGTHS)]].append(index)
    return {name: members for name, members in buckets.items() if members}


def unknown_rate(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Share of the tokens of some texts that stand for what the vocabulary cannot spell, 0 to 1."""
    unknown = tokenizer.unknown_ids
    tokens = [token for row in tokenizer.encode(texts) for token in row]
    return sum(token in unknown for token in tokens) / max(len(tokens), 1)


def copy_rate(sources: Sequence[str], translations: Sequence[str]) -> float:
    """Share of the words of translations that their sources have too, but for case, 0 to 1."""
    copied = total = 0
    for source, translation in zip(sources, translations, strict=True):
        known = set(_words(source))
        words = list(_words(translation))
        total += len(words)
        copied += sum(word in known for word in words)
    return copied / max(total, 1)


def _words(text: str) -> Iterable[str]:
    return (match[0].casefold() for match in WORD.finditer(text))


@dataclass(frozen=True)
class Error:
    """A poor translation: its place in the test set, from 1, its texts, and its chrF."""

    number: int
    source: str
    reference: str
    translation: str
    chrf: float

    def __str__(self) -> str:
        return (
            f"sentence {self.number}, chrF {self.chrf:.1f}\n"
            f"  source:      {self.source}\n  reference:   {self.reference}\n  translation: {self.translation}"
        )


def error_sample(pairs: Sequence[Pair], translations: Sequence[str], count: int, seed: int = 0) -> list[Error]:
    """Draw from the worse half of the translations by chrF, without replacement, in order of the test set."""
    metric = CHRF()
    scored = [
        Error(number, pair.source, pair.target, text, metric.sentence_score(text, [pair.target]).score)
        for number, (pair, text) in enumerate(zip(pairs, translations, strict=True), start=1)
        if text != pair.target
    ]
    worse = sorted(scored, key=lambda error: error.chrf)[: max(len(pairs) // 2, count)]
    drawn = random.Random(seed).sample(worse, min(count, len(worse)))
    return sorted(drawn, key=lambda error: error.number)
