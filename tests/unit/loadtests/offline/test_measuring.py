"""Which rival counts, and what a row says."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.offline.cases import Case
from loadtests.offline.measuring import Measured
from loadtests.offline.searches import Search
from loadtests.offline.worker import EngineSpec

NAMES = ("dragoman/int8", "dragoman/fp32", "ctranslate2/int8", "ctranslate2/float32", "huggingface/float32")


def measured() -> Measured:
    """Two batches of two sentences; seconds are of one batch."""
    kinds = (name.split("/") for name in NAMES)
    specs = {f"{kind}/{variant}": EngineSpec(kind, variant, Path()) for kind, variant in kinds}
    times = dict(zip(NAMES, ([1.0, 1.0, 2.0], [2.0] * 3, [2.5] * 3, [3.0, 3.0, 3.4], [8.0] * 3), strict=True))
    same = [[7, 8], [9], [7], [5, 5]]
    outputs = {**dict.fromkeys(NAMES, same), "ctranslate2/int8": [[7, 8], [9], [8], [5, 5]]}
    options = {name: {"max_batch_size": 16} if "ctranslate2" in name else {} for name in NAMES}
    return Measured(Case("tiny", "all", 2, Search(4, 9), [[[1], [2]], [[3], [4]]]), specs, options, times, outputs)


def test_each_precision_meets_the_best_of_each_rival() -> None:
    rows = {(row["precision"], row["rival"].partition("/")[0]): row for row in measured().rows()}
    assert {key: row["rival"] for key, row in rows.items()} == {
        ("int8", "ctranslate2"): "ctranslate2/int8",
        ("int8", "huggingface"): "huggingface/float32",
        ("fp32", "ctranslate2"): "ctranslate2/float32",  # int8 is faster, but computes something else
        ("fp32", "huggingface"): "huggingface/float32",
    }
    assert rows["int8", "ctranslate2"]["medians"] == {"ctranslate2/int8": 2.5, "ctranslate2/float32": 3.0}
    assert rows["int8", "ctranslate2"]["rival_options"] == {"max_batch_size": 16}


def test_figures_of_a_row() -> None:
    row = next(iter(measured().rows()))
    assert (row["model"], row["batch"], row["beam"], row["rounds"]) == ("tiny", 2, 4, 3)
    assert row["ratio"] == 2.5
    assert row["ratio_quartiles"] == pytest.approx([1.875, 2.5])
    assert (row["seconds"], row["rival_seconds"]) == (1.0, 2.5)
    assert (row["sentences_per_second"], row["rival_sentences_per_second"]) == (2.0, 0.8)
    assert (row["tokens_per_second"], row["rival_tokens_per_second"]) == (3.0, 1.2)
    assert row["equal_ratio"] == 0.75
