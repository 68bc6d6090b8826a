"""The aligner finds what translates what in a language whose rules are known."""

from pathlib import Path

import numpy as np
import torch

from training.data.alignment import Aligner, Pairs, align_store, batches_by_length, fit_aligner
from training.data.token_store import UNALIGNED, EncodedPair, TokenStore, open_store, write_store

WORDS, PARTICLE = 40, 99


def language(directory: Path, count: int, seed: int) -> tuple[TokenStore, list[list[int]]]:
    """A language that turns words into others, swaps neighbours at times and adds a particle that means nothing."""
    random = np.random.default_rng(seed)
    pairs, links = [], []
    for _ in range(count):
        source = random.integers(4, 4 + WORDS, size=random.integers(2, 12)).tolist()
        order = list(range(len(source)))
        for i in range(len(order) - 1):
            if random.random() < 0.2:
                order[i], order[i + 1] = order[i + 1], order[i]
        target, link = [source[i] + WORDS for i in order], [*order]
        if random.random() < 0.3:
            place = int(random.integers(len(target)))
            target.insert(place, PARTICLE)
            link.insert(place, UNALIGNED)
        pairs.append(EncodedPair(source, target, 0))
        links.append(link)
    write_store(directory, pairs, vocab_size=100, label_names=("",))
    return open_store(directory), links


def test_links_are_found_and_stored_in_the_order_of_the_target(tmp_path: Path) -> None:
    store, links = language(tmp_path / "store", 2000, 0)
    align_store(store, fit_aligner(store, (100, 100), 1000, shared=True), tmp_path / "links")
    aligned = store.with_links(tmp_path / "links")
    rows = np.array([1999, 3, 500])
    assert aligned.rows("target", rows).lengths.tolist() == aligned.rows("links", rows).lengths.tolist()
    found, told = aligned.tokens["links"], np.concatenate([np.array(link) for link in links])
    words = told != UNALIGNED
    assert (found == told)[words].mean() > 0.97
    assert (found == told)[~words].mean() > 0.8


def test_position_tells_repeated_words_apart(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 1000, 1)
    aligner = fit_aligner(store, (100, 100), 1000, shared=True)
    write_store(tmp_path / "two", [EncodedPair([5, 9, 5], [45, 49, 45], 0)], vocab_size=100, label_names=("",))
    assert aligner.align(Pairs(open_store(tmp_path / "two"), np.array([0]))).tolist() == [[0, 1, 2]]


def test_what_was_never_seen_translates_itself_where_the_vocabulary_is_shared(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 500, 2)
    write_store(tmp_path / "new", [EncodedPair([5, 97, 98], [98, 97, 45], 0)], vocab_size=100, label_names=("",))
    pairs = Pairs(open_store(tmp_path / "new"), np.array([0]))
    assert fit_aligner(store, (100, 100), 500, shared=True).align(pairs).tolist() == [[2, 1, 0]]
    assert fit_aligner(store, (100, 100), 500, shared=False).align(pairs).tolist() != [[2, 1, 0]]


def test_padding_changes_nothing(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 300, 3)
    aligner = fit_aligner(store, (100, 100), 300, shared=True)
    rows = np.arange(20)
    together = Pairs(store, rows)
    links = aligner.align(together)
    for row in rows:
        alone = aligner.align(Pairs(store, np.array([row])))[0]
        assert torch.equal(links[row][together.target_mask[row]], alone)


def test_batches_hold_every_row_once(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 3000, 4)
    batches = list(batches_by_length(store, np.arange(len(store))))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(store)))
    assert len(batches) > 3


def test_expectation_maximisation_makes_the_pairs_more_likely(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 500, 5)
    pairs = Pairs(store, np.arange(500))
    fresh = Aligner(100, 100, shared=False)
    fitted = fit_aligner(store, (100, 100), 500, shared=False)
    assert fitted.translation.sum(1).allclose(torch.ones(100), atol=1e-4)
    assert fitted.translation.max() > 0.9 > fresh.translation.max()
    assert (fitted.align(pairs) != UNALIGNED).float().mean() > 0.5


def test_only_the_share_that_is_asked_for_gets_links(tmp_path: Path) -> None:
    store, _ = language(tmp_path / "store", 400, 5)
    align_store(store, fit_aligner(store, (100, 100), 300, shared=True), tmp_path / "links", 0.25)
    links = store.with_links(tmp_path / "links").rows("links", np.arange(400))
    starts = np.cumsum(links.lengths) - links.lengths
    assert np.count_nonzero(np.minimum.reduceat(links.tokens, starts) != UNALIGNED) == 100
