"""A model built for Hugging Face ``generate`` computes what the bundle computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from loadtests.offline.dragoman_engine import DragomanEngine
from loadtests.offline.random_bundle import random_bundle
from loadtests.offline.searches import Search
from serving.bundle.bundle import load_bundle
from tests.unit.loadtests.offline.conftest import USUAL, VOCABULARY

pytest.importorskip("transformers", reason="the extra train-peer is not installed")

from loadtests.offline.huggingface_engine import HuggingFaceEngine, can_build


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_translates_alike(tmp_path: Path, norm: Literal["pre", "post"]) -> None:
    directory = random_bundle(tmp_path, "tiny", replace(USUAL, norm=norm, tie="all"), VOCABULARY)
    assert can_build(load_bundle(directory))
    ours = DragomanEngine(directory, "fp32", threads=1)
    theirs = HuggingFaceEngine(directory, "float32", threads=1)
    generator = np.random.default_rng(1)
    sources = [[*generator.integers(6, VOCABULARY, length).tolist(), 3] for length in (1, 2, 5, 9, 9, 14, 20)]
    search = Search(1, max_length=15, suppressed=(0, 1, 2))
    assert theirs.translate(sources, search, {}) == ours.translate(sources, search, {})
    forced = Search(4, max_length=6, min_length=6, suppressed=(0, 1, 2))
    assert theirs.translate(sources, forced, {}) == ours.translate(sources, forced, {})


def test_a_model_without_a_counterpart_is_known(unusual_bundle: Path) -> None:
    assert not can_build(load_bundle(unusual_bundle))
