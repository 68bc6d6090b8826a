"""A converted model computes what the bundle computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.offline.ctranslate2_engine import CTranslate2Engine
from loadtests.offline.ctranslate2_model import ConversionError, convert
from loadtests.offline.dragoman_engine import DragomanEngine
from loadtests.offline.searches import Search
from serving.bundle.bundle import load_bundle
from tests.unit.loadtests.offline.conftest import VOCABULARY


# With tied matrices a random model repeats itself whatever it reads; untied, it says something else each time.
@pytest.mark.parametrize(("which", "different"), [("bundle", 1), ("unusual_bundle", 4)])
def test_a_converted_model_translates_alike(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, different: int
) -> None:
    directory: Path = request.getfixturevalue(which)
    convert(directory, tmp_path / "converted")
    ours = DragomanEngine(directory, "fp32", threads=1)
    theirs = CTranslate2Engine(tmp_path / "converted", "float32", threads=1)
    generator = np.random.default_rng(1)
    sources = [[*generator.integers(6, VOCABULARY, length).tolist(), 3] for length in (1, 2, 5, 9, 9, 14, 20)]
    for beam in (1, 4):
        search = Search(beam, max_length=15, suppressed=(0, 1, 2))
        expected = ours.translate(sources, search, {})
        assert theirs.translate(sources, search, {}) == expected
        assert len({tuple(row) for row in expected}) >= different
    # They differ in beams of forced length: CTranslate2 shares out the probability of a token that may not come yet.
    forced = Search(1, max_length=6, min_length=6, suppressed=(0, 1, 2))
    assert theirs.translate(sources, forced, {}) == ours.translate(sources, forced, {})
    assert {len(row) for row in theirs.translate(sources, forced, {})} == {6}


def test_tokens_are_ids_and_special_ones_are_the_bundles(bundle: Path, tmp_path: Path) -> None:
    convert(bundle, tmp_path / "converted")
    manifest = load_bundle(bundle).manifest
    tokens = json.loads((tmp_path / "converted" / "shared_vocabulary.json").read_text())
    assert tokens == [str(number) for number in range(manifest.vocabulary_size)]
    config = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert config["eos_token"] == str(manifest.special_ids.eos)
    assert config["decoder_start_token"] == str(manifest.special_ids.decoder_start)


@pytest.mark.parametrize(
    ("sizes", "family", "said"),
    [
        ({"activation": "swiglu", "normalization": "rms"}, "transformer", "normalization rms, activation swiglu"),
        ({"positions": "rotary"}, "transformer", "positions rotary"),
        ({}, "rnn", "of family rnn"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    bundle: Path, tmp_path: Path, sizes: dict[str, Any], family: str, said: str
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["architecture"]["sizes"] |= sizes
    manifest["architecture"]["family"] = family
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConversionError, match=said):
        convert(copy, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()
