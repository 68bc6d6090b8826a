"""Int8 graphs against PyTorch, and against themselves in other company, for a model of each family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.calibration import calibrate
from export.numeric_parity import largest_differences
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence
from serving.opening import offline_engine
from serving.runtime import session
from serving.runtime.onnx_runner import OnnxRunner
from tests.parity.models import VOCABULARY, build, open_exported
from training.models.contract import TranslationModel

Exported = tuple[TranslationModel[Any], OnnxRunner]
RNG = np.random.default_rng(3)
SOURCES = [RNG.integers(4, VOCABULARY.source_size, size=size).tolist() for size in RNG.integers(1, 14, size=128)]
TARGETS = [RNG.integers(4, VOCABULARY.target_size, size=len(ids)).tolist() for ids in SOURCES]


@pytest.fixture(scope="module", params=["lstm-bahdanau", "transformer-pre-norm"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = build(request.param)
    inputs = calibrate(model, SOURCES, TARGETS, reverse=False)
    yield model, open_exported(model, tmp_path_factory.mktemp("graphs"), "int8", inputs)
    torch.set_num_threads(threads)


def translated(runner: OnnxRunner, sources: list[list[int]], beam: int) -> list[Decoded]:
    options = DecodingOptions(max_length=16, beam_size=beam)
    with offline_engine(runner) as engine:
        jobs = [Sentence(np.array([*ids, VOCABULARY.eos]), options) for ids in sources]
        return list(engine.submit(jobs).future.result())


def test_log_probs_differ_by_what_rounding_costs(exported: Exported) -> None:
    assert 1e-4 < largest_differences(*exported).log_prob < 0.6


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("company", [32, 128])
def test_a_sentence_alone_is_the_sentence_in_company_to_the_bit(exported: Exported, beam: int, company: int) -> None:
    _, runner = exported
    together = translated(runner, SOURCES[:company], beam)
    for number in (0, company // 3, company - 1):
        alone = translated(runner, [SOURCES[number]], beam)[0]
        assert alone.hypotheses == together[number].hypotheses


def test_answers_are_the_same_with_signed_and_with_unsigned_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("transformer-pre-norm")
    signed = open_exported(model, tmp_path, "int8", calibrate(model, SOURCES, TARGETS, reverse=False))
    monkeypatch.setattr(session, "_exact_int8_products", lambda: False)  # ONNX Runtime makes weights unsigned
    files = [graph.file for graph in (signed.model.precision.encoder, signed.model.precision.decoder)]
    encoder, decoder = (session.open_session(tmp_path / file, device="cpu", threads=1) for file in files)
    unsigned = OnnxRunner(signed.manifest, "int8", encoder, decoder, "cpu")
    found, expected = (translated(runner, SOURCES[:32], 4) for runner in (unsigned, signed))
    assert [one.hypotheses for one in found] == [one.hypotheses for one in expected]
