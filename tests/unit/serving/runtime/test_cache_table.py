"""Cache entries against a plain simulation: every hypothesis keeps exactly its own ancestors' entries."""

from __future__ import annotations

import numpy as np
import pytest

from serving.runtime.cache_table import HIDDEN, CacheTable


def visible(entries: CacheTable, parents: np.ndarray) -> tuple[list[list[set[int]]], list[list[int]]]:
    mask, places = entries.advance(parents)
    assert set(np.unique(mask)) <= {np.float32(0), HIDDEN}
    assert (places[:, :, 0] == np.arange(parents.shape[0])[:, None]).all()
    return [[set(np.flatnonzero(row == 0).tolist()) for row in slot[0]] for slot in mask], places[:, :, 1].tolist()


@pytest.mark.parametrize("beam", [1, 3, 4])
def test_histories_are_kept_and_nothing_live_is_overwritten(beam: int) -> None:
    rng = np.random.default_rng(beam)
    slots, entries = 3, CacheTable(beam, 3)
    held: list[list[dict[int, int]]] = [[{} for _ in range(beam)] for _ in range(slots)]  # entry -> what was written
    entries.admit(0, slots)
    written = 0
    for _ in range(40):
        parents = rng.integers(0, beam, size=(slots, beam))
        found, new = visible(entries, parents)
        for slot in range(slots):
            kept = [dict(held[slot][parent]) for parent in parents[slot]]
            live = {entry for row in kept for entry in row}
            assert not live & set(new[slot]), "a live entry would be overwritten"
            assert len(set(new[slot])) == beam
            for b in range(beam):
                kept[b][new[slot][b]] = written
                written += 1
                assert found[slot][b] == set(kept[b])
            held[slot] = kept


def test_hypotheses_with_one_past_share_it() -> None:
    entries = CacheTable(4, 1)
    entries.admit(0, 1)
    for _ in range(100):
        mask, _ = entries.advance(np.zeros((1, 4), dtype=np.int64))
    assert mask.shape[3] <= 100 + 2 * 4


def test_a_slot_starts_empty_and_moves_whole() -> None:
    entries = CacheTable(2, 3)
    entries.admit(0, 3)
    parents = np.array([[0, 1]] * 3)
    for _ in range(5):
        entries.advance(parents)
    entries.keep(np.array([2]))
    entries.admit(1, 1)
    found, new = visible(entries, parents[:2])
    assert [len(row) for row in found[0]] == [6, 6]
    assert found[1] == [{0}, {1}]
    assert new[1] == [0, 1]


def test_the_example_of_the_documentation() -> None:
    entries = CacheTable(2, 1)
    entries.admit(0, 1)
    steps = [visible(entries, np.array([parents])) for parents in ([0, 0], [0, 0], [1, 0])]
    assert steps == [([[{0}, {1}]], [[0, 1]]), ([[{0, 1}, {0, 2}]], [[1, 2]]), ([[{0, 2, 3}, {0, 1, 4}]], [[3, 4]])]
