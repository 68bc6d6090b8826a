"""The order of batches, their size, and how processes share them."""

import itertools
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training.text import store_of
from training.data.batches import Batch, BatchStream, Share, make_batch
from training.data.sampler import BatchSettings, Position, TokenBatchSampler, _cuts, cut_batches
from training.errors import DataError
from training.models.contract import Vocabulary


def sampler(folder: Path, labels: list[int], copies: list[float], **overrides: int) -> TokenBatchSampler:
    random = np.random.default_rng(1)
    lengths = [tuple(random.integers(1, 30, 2).tolist()) for _ in labels]
    chosen = BatchSettings(**{"tokens": 100, "window": 64, **overrides})
    store = store_of(folder / "s", lengths, labels)
    return TokenBatchSampler(store, {str(i): c for i, c in enumerate(copies)}, chosen, seed=4)


def widths_of(s: TokenBatchSampler, rows: "np.ndarray[tuple[int], np.dtype[np.uint32]]") -> list[int]:
    return (np.maximum(s.store.lengths("source", rows), s.store.lengths("target", rows)) + 1).tolist()  # type: ignore[no-any-return]


def test_batches_fit_the_budget_and_cover_every_pair_once(tmp_path: Path) -> None:
    s = sampler(tmp_path, [0] * 500, [1.0])
    batches = list(s.epoch(0))
    assert all(max(widths_of(s, rows)) * len(rows) <= 100 for rows in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))


@given(widths=st.lists(st.integers(1, 40), min_size=1, max_size=80), budget=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_no_fewer_batches_would_do_and_none_is_over_budget(widths: list[int], budget: int) -> None:
    widths.sort()
    batches = cut_batches(np.arange(len(widths)), np.array(widths), budget)
    assert np.concatenate(batches).tolist() == list(range(len(widths)))
    assert all(len(b) == 1 or widths[b[-1]] * len(b) <= budget for b in batches)
    greedy, start = 0, 0
    for end in range(1, len(widths) + 1):
        if end == len(widths) or widths[end] * (end + 1 - start) > budget:
            greedy, start = greedy + 1, end
    assert len(batches) == greedy


@given(widths=st.lists(st.integers(1, 40), min_size=1, max_size=80), budget=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_a_batch_ends_where_the_next_row_would_exceed_the_budget(widths: list[int], budget: int) -> None:
    expected, start = list[int](), 0
    for end in range(1, len(widths)):
        if max(widths[start : end + 1]) * (end + 1 - start) > budget:
            expected, start = [*expected, end], end
    assert _cuts(np.array(widths), budget) == [*expected, len(widths)]


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = cut_batches(np.arange(4), np.array([3, 3, 50, 3]), 10)
    assert [b.tolist() for b in batches] == [[0, 1], [2], [3]]


def test_batches_of_a_step_are_of_equal_padded_size(tmp_path: Path, vocabulary: Vocabulary) -> None:
    s = sampler(tmp_path, [0] * 6000, [1.0], tokens=1000, window=2000)
    sizes = [max(widths_of(s, rows)) * len(rows) for rows in itertools.chain(s.epoch(0), s.epoch(1))]
    steps = np.array(sizes[: len(sizes) // 4 * 4]).reshape(-1, 4)
    # What the slowest of four processes has to do, compared with their mean: in the usual step, and in the worst.
    imbalance = steps.max(axis=1) / steps.mean(axis=1)
    assert imbalance.mean() < 1.02
    assert imbalance.max() < 1.2


def test_weights_are_expected_copies(tmp_path: Path) -> None:
    counts = np.zeros(3000)
    s = sampler(tmp_path, [0] * 1000 + [1] * 1000 + [2] * 1000, [2.0, 0.25, 0.0])
    for epoch in range(4):
        np.add.at(counts, np.concatenate(list(s.epoch(epoch))), 1)
    assert (counts[:1000] == 8).all()
    assert 900 < counts[1000:2000].sum() < 1100
    assert counts[2000:].sum() == 0
    with pytest.raises(DataError, match="weight 0"):
        sampler(tmp_path, [0, 0, 1], [0.0, 0.0])


def test_order_is_seeded_changes_with_the_pass_and_resumes_in_the_middle(tmp_path: Path) -> None:
    s = sampler(tmp_path, [0] * 300, [1.0])

    def take(start: Position, count: int) -> list[tuple[list[int], Position]]:
        return [(rows.tolist(), after) for rows, after in itertools.islice(s.batches(start), count)]

    whole = take(Position(), 150)
    assert whole == take(Position(), 150)
    assert whole[0][0] != take(Position(1, 0), 1)[0][0]
    assert {after.epoch for _, after in whole} >= {0, 1}
    for stop in (1, 17, 60, 120):
        assert take(whole[stop - 1][1], 20) == whole[stop : stop + 20]


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 4), (2, 2), (4, 1)])
def test_a_step_is_made_of_the_same_batches_however_it_is_shared(
    tmp_path: Path, vocabulary: Vocabulary, processes: int, accumulate: int
) -> None:
    store = store_of(tmp_path / "s", [(1 + i % 5, 1 + i % 4) for i in range(60)])
    s = TokenBatchSampler(store, {"0": 1.0}, BatchSettings(tokens=24), 1)

    def stream(start: Position, rank: int, count: int) -> list[Batch]:
        share = Share(rank, processes, accumulate)
        return list(itertools.islice(BatchStream(store, s, vocabulary, start, share), count))

    alone = list(itertools.islice(s.batches(Position()), 8))
    found = [stream(Position(), rank, 2 * accumulate) for rank in range(processes)]
    for step in range(2):
        batches = alone[4 * step : 4 * step + 4]
        shared = [found[i % processes][step * accumulate + i // processes] for i in range(4)]
        assert [b.place for b in shared] == [after for _, after in batches]
        assert [len(b.source) for b in shared] == [len(rows) for rows, _ in batches]
        assert {b.normaliser for b in shared} == {sum(float(b.mask.sum()) for b in shared) / 4}
        # Whoever stops inside a step repeats it; after its last batch, everyone resumes with the next.
        before = alone[4 * step - 1][1] if step else Position()
        assert [b.after for b in shared[:-processes]] == [before] * (4 - processes)
        assert {b.after for b in shared[-processes:]} == {batches[-1][1]}
    resumed = stream(found[0][accumulate - 1].after, processes - 1, 1)[0]
    assert torch.equal(resumed.source, found[-1][accumulate].source)


def test_batch_layout(vocabulary: Vocabulary) -> None:
    batch = make_batch([[5, 6], [7]], [[8], [9, 10]], vocabulary)
    assert batch.source.tolist() == [[5, 6, 3], [7, 3, 0]]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.target_in.tolist() == [[2, 8, 0], [2, 9, 10]]
    assert batch.target_out.tolist() == [[8, 3, 0], [9, 10, 3]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.normaliser == 5.0
    assert batch.real.tolist() == [0, 1, 3, 4, 5]
    assert make_batch([[7], [5, 6]], [[8], [9]], vocabulary, reverse=True).source.tolist() == [[7, 3, 0], [6, 5, 3]]
    assert make_batch([[5, 6]], [[8]], vocabulary, reverse=True).source.tolist() == [[6, 5, 3]]


def test_batches_of_the_stream_are_made_of_the_rows_of_the_store(tmp_path: Path, vocabulary: Vocabulary) -> None:
    s = sampler(tmp_path, [0] * 90, [1.0])
    for (rows, _), batch in zip(s.batches(Position()), BatchStream(s.store, s, vocabulary, Position()), strict=False):
        sources, targets = (s.store.rows(side, rows).apart() for side in ("source", "target"))
        expected = make_batch(sources, targets, vocabulary)
        assert all(torch.equal(found, wanted) for found, wanted in zip(batch[:5], expected[:5], strict=True))
        if batch.after.epoch:
            break


CAPPED = """
import itertools, resource, sys
from pathlib import Path
import numpy as np
from training.data.batches import BatchStream
from training.data.sampler import BatchSettings, Position, TokenBatchSampler
from training.data.token_store import open_store
from training.models.contract import Vocabulary

store = open_store(Path(sys.argv[1]))
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmData:"))
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
if sys.argv[3] == "whole":
    np.fromfile(Path(sys.argv[1]) / "target.tokens", dtype=np.uint16)
sampler = TokenBatchSampler(store, {"0": 1.0}, BatchSettings(tokens=8000, window=1000), 1)
stream = BatchStream(store, sampler, Vocabulary(23, 23), Position())
rows = 0
for batch in itertools.takewhile(lambda batch: batch.after.epoch == 0, stream):
    rows += len(batch.source)
print(rows)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA"), reason="the cap on memory is Linux's")
def test_a_corpus_larger_than_memory_is_read_by_a_capped_process(tmp_path: Path) -> None:
    store_of(tmp_path / "s", [(1000, 1000)] * 6000)  # 24 MB of token ids
    assert (tmp_path / "s" / "target.tokens").stat().st_size == 12_000_000

    def read(how: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", CAPPED, str(tmp_path / "s"), str(8 << 20), how]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = read("mapped")
    assert (done.returncode, done.stdout.strip()) == (0, "6000"), done.stderr
    # The control: one side alone does not fit.
    assert "MemoryError" in read("whole").stderr
