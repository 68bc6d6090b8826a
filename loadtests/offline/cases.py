"""Cases of comparisons: random sentences of one length, and real ones by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.offline.searches import Batches, Ids, Search
from serving.bundle.manifest import Manifest, SpecialIds

BATCHES, BEAMS = (1, 8, 32), (1, 4)
QUICK_BATCHES = (1, 32)
_RANDOM_LENGTH = 24  # tokens of source and target
_FIRST_WORD = 10  # ids below are special or rare by convention
_MANDELBROT = 2.7
_FEWEST_TOKENS = 96  # of a case: one short sentence takes too little time to measure
_BUCKETS = ((1, 10), (11, 20), (21, 40))  # source tokens
_BUCKET_SENTENCES = 32

Words = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """Batches that are translated one after the other."""

    model: str  # the bundle's name
    sentences: str  # description of the sentences
    batch: int  # sentences per batch
    search: Search  # options of the search
    batches: Batches  # source token ids, the end token included


def random_cases(manifest: Manifest, batches: Sequence[int] = BATCHES) -> Iterator[Case]:
    """Yield batches of random sentences, all of one length."""
    for beam in BEAMS:
        yield from (forced_case(manifest, batch, _RANDOM_LENGTH, beam) for batch in batches)


def forced_case(manifest: Manifest, batch: int, length: int, beam: int) -> Case:
    """Return random sentences of ``length`` tokens, translated to as many, so that all engines do the same work."""
    size = max(batch, _FEWEST_TOKENS // length), length - 1
    words = words_like_real_ones(np.random.default_rng(batch), manifest.vocabulary_size, size)
    sentences = [[*row, manifest.special_ids.eos] for row in words.tolist()]
    search = Search(beam, max_length=length, min_length=length, suppressed=_suppressed(manifest.special_ids))
    return Case(manifest.name, f"{length} + {length} tokens", batch, search, _split(sentences, batch))


def words_like_real_ones(generator: np.random.Generator, vocabulary_size: int, size: tuple[int, ...]) -> Words:
    """Draw token ids, low ones often, as words of a language occur (Zipf's law in Mandelbrot's form).

    So sentences of a batch share words, and lists of translations share tokens, as they do in real text.
    """
    shares = 1 / (np.arange(vocabulary_size - _FIRST_WORD) + _MANDELBROT)
    return _FIRST_WORD + generator.choice(len(shares), size=size, p=shares / shares.sum())


def real_cases(manifest: Manifest, corpus: Sequence[Ids]) -> Iterator[Case]:
    """Yield sentences of similar length, the same ones in batches of every size, from source token ids."""
    for low, high in _BUCKETS:
        fitting = [ids for ids in corpus if low <= len(ids) - 1 <= high]
        if len(fitting) < _BUCKET_SENTENCES:
            continue
        sentences = fitting[:: len(fitting) // _BUCKET_SENTENCES][:_BUCKET_SENTENCES]
        for beam in BEAMS:
            for batch in BATCHES:
                label, search = f"{low}-{high} tokens", _search(manifest, sentences, beam)
                yield Case(manifest.name, label, batch, search, _split(sentences, batch))


def corpus_case(manifest: Manifest, corpus: Sequence[Ids], beam: int = 4) -> Case:
    """Return a case of all sentences at once, which each engine batches as suits it best."""
    return Case(manifest.name, "all", len(corpus), _search(manifest, corpus, beam), [corpus])


def _search(manifest: Manifest, sentences: Sequence[Ids], beam: int) -> Search:
    """Return a search with ample target tokens for every sentence: rivals have one limit per batch."""
    longest = min(2 * max(map(len, sentences)) + 16, manifest.limits.max_target_tokens)
    return Search(beam, max_length=longest, suppressed=_suppressed(manifest.special_ids))


def _suppressed(ids: SpecialIds) -> tuple[int, ...]:
    return tuple(sorted({ids.pad, ids.unk, ids.bos, ids.decoder_start} - {ids.eos}))


def _split(sentences: Sequence[Ids], batch: int) -> Batches:
    return [sentences[at : at + batch] for at in range(0, len(sentences), batch)]
