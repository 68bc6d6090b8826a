"""Word pairs of a corpus: words of its two languages that are each other's most likely translation.

A small model copies or spells out a word that stands alone, or that it has seen only a few times, and corpora have few
pairs of single words. Those that follow from how often words are seen together are pairs to train on. The measure is
Dice's coefficient, and a link is kept if it is the strongest one of both its words (Melamed 2000, "Models of
translational equivalence among words"). The lexicon of a shortlist, many tokens for each token, is `export/lexicon.py`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.parallel_text import Pair

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_FEWEST = 4  # texts that have a word
_MOST = 0.02  # of all texts: what more of them have are articles, pronouns and the like
_STRENGTH = 0.35  # least coefficient of a pair
_COPIED = 0.6  # least coefficient of a word and itself for which it is taken for a name
_CHUNK = 1 << 22  # word pairs that are counted at a time


def word_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Find the words that translate each other.

    Args:
        pairs: Text; how often a word is seen counts, so the sources have to be mixed as they shall weigh.

    Returns:
        Pairs of single words in the order of the alphabet, each word as it is mostly written inside a text. Words that
        are the same in both languages are left out.
    """
    (sources, source_words), (targets, target_words) = (
        _index([getattr(pair, side) for pair in pairs]) for side in ("source", "target")
    )
    if not source_words or not target_words:
        return []
    left, right, together = _seen_together(sources, targets, len(target_words))
    counts = [np.array([count for _, count in words]) for words in (source_words, target_words)]
    dice = 2.0 * together / (counts[0][left] + counts[1][right])
    # A name that both languages have is copied; what it is seen with otherwise is another name.
    numbers = {word.lower(): number for number, (word, _) in enumerate(target_words)}
    alike = np.array([numbers.get(word.lower(), -1) for word, _ in source_words])[left] == right
    dice[alike] = np.where(dice[alike] >= _COPIED, np.inf, 0.0)
    best = [np.zeros(len(count)) for count in counts]
    np.maximum.at(best[0], left, dice)
    np.maximum.at(best[1], right, dice)
    kept = (dice >= _STRENGTH) & (dice == best[0][left]) & (dice == best[1][right]) & ~alike
    found = ((source_words[s][0], target_words[t][0]) for s, t in zip(left[kept], right[kept], strict=True))
    return [Pair(source, target, "") for source, target in sorted(found)]


def _index(texts: Sequence[str]) -> tuple[list[list[int]], list[tuple[str, int]]]:
    """Give numbers to the words that are neither rare nor everywhere.

    Returns:
        The numbers of each text's words, and by number how a word is mostly spelt and how many texts have it.
    """
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counts: Counter[str] = Counter()
    words = [_WORD.findall(text) for text in texts]
    for row in words:
        counts.update({word.lower() for word in row})
        for word in row[1:]:  # the first one has a capital whatever it is
            spellings[word.lower()][word] += 1
    kept = [word for word, count in counts.items() if _FEWEST <= count <= _MOST * len(texts)]
    numbers = {word: number for number, word in enumerate(kept)}
    rows = [sorted({numbers[key] for word in row if (key := word.lower()) in numbers}) for row in words]
    described = [(max(spellings[word], key=spellings[word].__getitem__, default=word), counts[word]) for word in kept]
    return rows, described


def _seen_together(
    sources: Iterable[list[int]], targets: Iterable[list[int]], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return source words, target words, and how many pairs have both, each of shape (combination,)."""
    keys, together = np.empty(0, np.int64), np.empty(0, np.int64)
    for chunk in _chunks(sources, targets, width):
        keys, places = np.unique(np.concatenate([keys, chunk]), return_inverse=True)
        weights = np.concatenate([together, np.ones(len(chunk), np.int64)])
        together = np.bincount(places, weights).astype(np.int64)
    return keys // width, keys % width, together


def _chunks(sources: Iterable[list[int]], targets: Iterable[list[int]], width: int) -> Iterator[NDArray[np.int64]]:
    """Yield source number x width + target number of all words seen together, some millions at a time."""
    parts, size = list[NDArray[np.int64]](), 0
    for source, target in zip(sources, targets, strict=True):
        crossed = np.add.outer(np.array(source, np.int64) * width, np.array(target, np.int64)).ravel()
        parts.append(crossed)
        size += len(crossed)
        if size >= _CHUNK:
            yield np.concatenate(parts)
            parts, size = [], 0
    if parts:
        yield np.concatenate(parts)
