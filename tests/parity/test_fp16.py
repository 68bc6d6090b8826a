"""Float16 graphs, run on the CPU with casts around what it has no kernels for, against PyTorch; and hostile inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from export.numeric_parity import largest_differences
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence
from serving.opening import offline_engine
from serving.runtime.onnx_runner import OnnxRunner
from tests.parity.models import VOCABULARY, build, open_exported
from training.models.contract import TranslationModel

Exported = tuple[TranslationModel[Any], OnnxRunner]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(
    scope="module",
    params=["transformer-pre-norm", "transformer-modern", "decoder-only-causal", "gru-bahdanau-local", "lstm-bahdanau"],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model = build(request.param)
    return model, open_exported(model, tmp_path_factory.mktemp("graphs"), "fp16")


def translated(runner: OnnxRunner, sources: list[list[int]], beam: int) -> list[Decoded]:
    options = DecodingOptions(max_length=40, beam_size=beam)
    with offline_engine(runner) as engine:
        return list(engine.submit([Sentence(np.array([*s, VOCABULARY.eos]), options) for s in sources]).future.result())


def test_log_probs_differ_by_what_rounding_costs(exported: Exported) -> None:
    found = largest_differences(*exported)
    assert 1e-5 < found.log_prob < 0.1
    assert found.attention < 0.1


def test_memory_and_caches_are_half_and_recurrent_state_is_not(exported: Exported) -> None:
    _, runner = exported
    precision = runner.model.precision
    assert precision.devices == ("cuda",)
    assert {spec.dtype for spec in precision.memory} == {"float16"}
    assert {spec.dtype for spec in precision.state} == {"float32" if precision.state[0].initial else "float16"}


@pytest.mark.parametrize("beam", [1, 4])
def test_hostile_sources_give_finite_scores(exported: Exported, beam: int) -> None:
    _, runner = exported
    sources = [[], [5], [7] * 50, [39] * 50, list(range(4, 40)), [4, 39] * 25, [VOCABULARY.eos] * 20]
    for answer in translated(runner, sources, beam):
        assert all(np.isfinite(hypothesis.score) for hypothesis in answer.hypotheses)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("transformer-pre-norm", "contract"),
        ("transformer-pre-norm", "output"),
        ("transformer-post-norm", "expand"),
        ("transformer-modern", "expand"),
    ],
)
def test_sums_beyond_half_are_clipped_and_not_nan(
    name: str, part: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Weights made so large that the residual stream, or the inside of a layer, leaves float16."""
    model = build(name)
    grown = 0
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(f"{part}.weight") and "layers" in parameter_name:
                parameter.mul_(3000)
                grown += 1
    assert grown
    runner = open_exported(model, tmp_path_factory.mktemp("graphs"), "fp16")
    for answer in translated(runner, [[5], [7] * 30, list(range(4, 30))], 4):
        assert all(np.isfinite(hypothesis.score) for hypothesis in answer.hypotheses)
