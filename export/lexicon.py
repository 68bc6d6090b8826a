"""Translations of single tokens: IBM Model 1 (Brown et al. 1993) over token ids, in NumPy.

What comes out is the shortlist's lexicon: the likely translations of each source token, and the frequent tokens, which
no sentence is denied. Marian and CTranslate2 cut their output vocabularies with lexicons of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from serving.bundle.shortlist import Shortlist
from training.models.contract import Vocabulary
from training.progress_bar import progress

_ITERATIONS = 5
_MOST_TOKENS = 50  # of a sentence; longer pairs say little and cost their product, so they are left out
_BLOCK = 2000  # sentence pairs that are looked at together; bounds the memory

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LexiconSizes:
    """Size of a sentence's share of the vocabulary.

    Attributes:
        always: Most frequent target tokens, which every sentence gets.
        best: Most likely translations of each source token.
    """

    always: int = 500
    best: int = 50


def build_shortlist(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], vocabulary: Vocabulary, sizes: LexiconSizes
) -> Shortlist:
    """Learns a lexicon from sentence pairs.

    Args:
        sources: Token ids, without the end token.
        targets: Token ids of their translations, without the end token.
        vocabulary: Where the two sides share it, every source token is among its own translations: names are copied.
        sizes: Of the lexicon.

    Raises:
        ExportError: There are no pairs to learn from.
    """
    fitting = [
        (source, target)
        for source, target in zip(sources, targets, strict=True)
        if 0 < len(source) <= _MOST_TOKENS and 0 < len(target) <= _MOST_TOKENS
    ]
    if not fitting:
        raise ExportError(
            f"the shortlist has no pairs of 1 to {_MOST_TOKENS} tokens to learn from: give other sentences"
        )
    words, translations, probabilities = model_1(*zip(*fitting, strict=True))
    frequency = np.bincount(np.concatenate([target for _, target in fitting]), minlength=vocabulary.target_size)
    frequency[list(vocabulary.suppressed)] = 0
    frequent = np.argsort(-frequency, kind="stable")[: sizes.always]
    always = np.union1d(frequent[frequency[frequent] > 0], [vocabulary.eos])
    best = np.full((vocabulary.source_size, sizes.best + int(vocabulary.shared)), vocabulary.eos, dtype=np.int32)
    kept = ~np.isin(translations, vocabulary.suppressed)
    words, translations, probabilities = words[kept], translations[kept], probabilities[kept]
    order = np.lexsort((translations, -probabilities, words))
    words, translations = words[order], translations[order]
    rank = np.arange(words.size) - np.searchsorted(words, words)
    likely = rank < sizes.best
    best[words[likely], rank[likely]] = translations[likely]
    if vocabulary.shared:
        best[:, -1] = np.arange(vocabulary.source_size)
        best[list(vocabulary.suppressed), -1] = vocabulary.eos
    return Shortlist(always.astype(np.int32), best)


def model_1(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Estimate the translation table t(target | source) of IBM Model 1, after a few iterations of EM.

    The empty word that Model 1 adds to each source takes the tokens that translate nothing; it is left out here.

    Args:
        sources: Token ids of non-empty sentences.
        targets: Token ids of their translations.

    Returns:
        Source token, target token and probability of every pair that occurs in a sentence pair. Shapes (pair,).
    """
    width = max(max(ids) for ids in targets) + 1
    blocks = [
        _block(sources[first : first + _BLOCK], targets[first : first + _BLOCK], width)
        for first in progress(range(0, len(sources), _BLOCK), "counting token pairs")
    ]
    pairs = np.unique(np.concatenate([block.pairs for block in blocks]))
    places = [np.searchsorted(pairs, block.pairs) for block in blocks]
    word = pairs // width
    probability = np.ones(pairs.size)
    for _ in progress(range(_ITERATIONS), "learning the lexicon"):
        counts = np.zeros(pairs.size)
        for block, place in zip(blocks, places, strict=True):
            share = probability[place][block.pair]
            share /= np.bincount(block.target, share)[block.target]
            counts[place] += np.bincount(block.pair, share)
        probability = counts / np.bincount(word, counts)[word]
    real = word > 0
    return word[real] - 1, (pairs % width)[real], probability[real]


@dataclass(frozen=True)
class _Block:
    """Some sentence pairs.

    Attributes:
        pairs: The pairs of tokens that occur, as (source + 1) * width + target, ascending. Shape (pair,).
        pair: Which of them each occurrence is. Shape (occurrence,), int32.
        target: Its target position in the joined targets of the block. Shape (occurrence,), int32.
    """

    pairs: Ints
    pair: NDArray[np.int32]
    target: NDArray[np.int32]


def _block(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], width: int) -> _Block:
    source_sizes = np.array([len(ids) + 1 for ids in sources])
    target_sizes = np.array([len(ids) for ids in targets])
    products = source_sizes * target_sizes
    sentence = np.repeat(np.arange(products.size), products)
    within = np.arange(products.sum()) - (np.cumsum(products) - products)[sentence]
    source_first, target_first = (np.cumsum(sizes) - sizes for sizes in (source_sizes, target_sizes))
    source_at = source_first[sentence] + within // target_sizes[sentence]
    target_at = target_first[sentence] + within % target_sizes[sentence]
    source = np.concatenate([[0, *(token + 1 for token in ids)] for ids in sources])  # 0 is the empty word
    target = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in targets])
    pairs, pair = np.unique(source[source_at] * width + target[target_at], return_inverse=True)
    return _Block(pairs, pair.astype(np.int32), target_at.astype(np.int32))
