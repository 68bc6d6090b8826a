"""Every engine gets the same sentences, in batches of the right size."""

from __future__ import annotations

import numpy as np

from loadtests.offline.cases import (
    BATCHES,
    BEAMS,
    QUICK_BATCHES,
    corpus_case,
    forced_case,
    random_cases,
    real_cases,
    words_like_real_ones,
)
from tests.unit.serving.engine.toy_engine import manifest


def test_the_table_of_the_quick_run() -> None:
    cases = list(random_cases(manifest(), QUICK_BATCHES))
    assert [(case.batch, case.search.beam) for case in cases] == [(1, 1), (32, 1), (1, 4), (32, 4)]
    for case in cases:
        assert (case.search.min_length, case.search.max_length) == (24, 24)
        assert {len(source) for batch in case.batches for source in batch} == {24}
        assert all(source[-1] == manifest().special_ids.eos for batch in case.batches for source in batch)


def test_batches_are_of_their_size_and_long_enough_to_be_timed() -> None:
    for batch in (1, 8, 64):
        case = forced_case(manifest(), batch, 12, 4)
        assert {len(one) for one in case.batches} == {batch}
        assert sum(map(len, case.batches)) * 12 >= 96
    assert forced_case(manifest(), 8, 12, 1).batches == forced_case(manifest(), 8, 12, 4).batches


def test_real_sentences_are_the_same_in_batches_of_every_size() -> None:
    corpus = [[7] * (length - 1) + [3] for length in range(2, 42) for _ in range(5)]
    cases = list(real_cases(manifest(), corpus))
    labels = list(dict.fromkeys(case.sentences for case in cases))
    assert labels == ["1-10 tokens", "11-20 tokens", "21-40 tokens"]
    assert len(cases) == len(labels) * len(BATCHES) * len(BEAMS)
    for label, low, high in zip(labels, (1, 11, 21), (10, 20, 40), strict=True):
        own = [[source for batch in case.batches for source in batch] for case in cases if case.sentences == label]
        assert own == [own[0]] * len(own)
        assert len(own[0]) == 32
        assert all(low <= len(source) - 1 <= high for source in own[0])


def test_lengths_with_too_few_sentences_are_left_out() -> None:
    corpus = [[7, 3]] * 40 + [[7] * 15 + [3]] * 31
    assert {case.sentences for case in real_cases(manifest(), corpus)} == {"1-10 tokens"}


def test_a_corpus_is_one_batch_within_the_limit_of_the_model() -> None:
    case = corpus_case(manifest(max_target_tokens=50), [[7] * 30 + [3], [7, 3]])
    assert (case.batch, len(case.batches), case.search.beam, case.search.max_length) == (2, 1, 4, 50)


def test_random_words_are_as_frequent_as_those_of_a_language() -> None:
    words = words_like_real_ones(np.random.default_rng(0), 58_101, (32, 23))
    assert words.shape == (32, 23)
    assert words.min() >= 10
    assert words.max() < 58_101
    assert 400 < len(np.unique(words)) < 600  # 32 sentences of English have 400 pieces of 16,000
