"""A converted model computes what the bundle computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import pytest

from loadtests.engine.base_random import random_bundle
from loadtests.engine.ctranslate2_engine import CTranslate2Engine
from loadtests.engine.ctranslate2_model import ConversionError, convert
from loadtests.engine.dragoman_engine import DragomanEngine
from loadtests.engine.searches import Search
from serving.bundle.bundle import load_bundle
from tests.unit.loadtests.engine.random_models import MODELS, POST_NORM, VOCABULARY

# Ours never says these; CTranslate2 must be told.
SUPPRESSED = {"disable_unk": True, "suppress_sequences": [["0"], ["2"]]}


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_translates_alike(tmp_path: Path, name: str) -> None:
    bundle = random_bundle(tmp_path, "tiny", MODELS[name], VOCABULARY)
    convert(bundle, tmp_path / "converted")
    ours = DragomanEngine(bundle, "fp32", threads=1)
    theirs = CTranslate2Engine(tmp_path / "converted", "float32", threads=1)
    generator = np.random.default_rng(1)
    sources = [[*generator.integers(6, VOCABULARY, length).tolist(), 3] for length in (1, 2, 5, 9, 9, 14, 20)]
    for beam in (1, 4):
        search = Search(beam, max_length=15)
        expected = ours.translate(sources, search, {})
        assert theirs.translate(sources, search, SUPPRESSED) == expected
        assert len({tuple(row) for row in expected}) > 3
        forced = Search(beam, max_length=6, min_length=6)
        assert {len(row) for row in theirs.translate(sources, forced, SUPPRESSED)} == {6}
        assert theirs.translate(sources, forced, SUPPRESSED) == ours.translate(sources, forced, {})


def test_tokens_are_ids_and_special_ones_are_the_bundles(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path, "tiny", MODELS["post-norm"], VOCABULARY)
    convert(bundle, tmp_path / "converted")
    ids = load_bundle(bundle).manifest.special_ids
    translator = ctranslate2.Translator(str(tmp_path / "converted"))
    (result,) = translator.translate_batch([["7", str(ids.eos)]], max_decoding_length=3, return_scores=True)
    assert all(0 <= int(token) < VOCABULARY for token in result.hypotheses[0])
    config = (tmp_path / "converted" / "config.json").read_text()
    assert f'"eos_token": "{ids.eos}"' in config
    assert f'"decoder_start_token": "{ids.decoder_start}"' in config


def test_what_has_no_counterpart_is_refused(tmp_path: Path) -> None:
    settings = replace(POST_NORM, activation="swiglu", normalization="rms", positions="rotary")
    bundle = random_bundle(tmp_path, "tiny", settings, VOCABULARY)
    with pytest.raises(ConversionError, match="normalization rms, activation swiglu, positions rotary"):
        convert(bundle, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()
