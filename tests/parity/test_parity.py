"""PyTorch against ONNX Runtime, and serving's search against the slow reference, on random models of every family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from export.numeric_parity import largest_differences
from serving.bundle.manifest import Architecture
from serving.decoding.beam import BeamSearch
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence
from serving.opening import offline_engine
from serving.runtime.device_grid import DeviceGrid
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.runner import Grid
from serving.step import Floats
from tests.parity.models import MODELS, NOT_OF_REFERENCE, build, open_exported
from training import decode
from training.models.contract import TranslationModel
from training.models.transformer import Transformer

Exported = tuple[TranslationModel[Any], OnnxRunner]


@pytest.fixture(scope="module", params=sorted(MODELS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = build(request.param)
    yield model, open_exported(model, tmp_path_factory.mktemp("graphs"))
    torch.set_num_threads(threads)


def sources(model: TranslationModel[Any], count: int) -> list[list[int]]:
    rng = np.random.default_rng(7)
    vocabulary = model.vocabulary
    return [
        rng.integers(vocabulary.eos + 1, vocabulary.source_size, size=rng.integers(1, 14)).tolist()
        for _ in range(count)
    ]


def run(exported: Exported, jobs: list[tuple[list[int], DecodingOptions]]) -> list[Decoded]:
    model, runner = exported
    with offline_engine(runner) as engine:
        eos = model.vocabulary.eos
        return list(engine.submit([Sentence(np.array([*ids, eos]), o) for ids, o in jobs]).future.result())


def reference(
    model: TranslationModel[Any], ids: list[int], options: DecodingOptions
) -> list[decode.ReferenceHypothesis]:
    wanted = {k: v for k, v in asdict(options).items() if k not in NOT_OF_REFERENCE}
    return decode.translate(model, [ids], decode.DecodeOptions(**wanted))[0]


def test_log_probs_at_every_shape(exported: Exported) -> None:
    found = largest_differences(*exported)
    assert found.log_prob <= 1e-4
    assert found.attention <= 1e-5


def test_what_has_an_alignment_tells_its_attention(exported: Exported) -> None:
    model, runner = exported
    attends = model.attention(torch.tensor([[5, 3]]), torch.tensor([2]), torch.tensor([[2]])).shape[0] > 0
    assert runner.model.precision.has_attention == attends


def test_the_attention_of_another_head_is_found(exported: Exported) -> None:
    """The comparison must be able to fail."""
    model, runner = exported
    if not isinstance(model, Transformer):
        pytest.skip("one head, or the heads of a decoder-only model")
    other_head = Architecture(family="random", sizes={"alignment_layer": -1, "alignment_head": 1})
    manifest = runner.manifest.model_copy(update={"architecture": other_head})
    other = OnnxRunner(manifest, "fp32", runner.encoder, runner.decoder, "cpu")
    assert largest_differences(model, other).attention > 0.01


def test_a_wrong_weight_is_found(exported: Exported) -> None:
    """The comparison must be able to fail: one changed number in the decoder shows."""
    model, runner = exported
    weight = model.get_parameter("vocab_projection.weight")
    with torch.no_grad():
        weight[20, 3] += 0.01
        found = largest_differences(model, runner).log_prob
        weight[20, 3] -= 0.01
    assert found > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(max_length=20),
        DecodingOptions(max_length=20, beam_size=4, n_best=4),
        DecodingOptions(max_length=20, beam_size=3, n_best=2, length_penalty=0.6, min_length=4),
        DecodingOptions(max_length=16, beam_size=2, no_repeat_ngram_size=2, repetition_penalty=1.4),
        DecodingOptions(max_length=16, repetition_penalty=1.6, prefix=(7, 30, 7)),
        DecodingOptions(max_length=40, beam_size=5, n_best=5, no_repeat_ngram_size=1, prefix=(9,)),
    ],
    ids=["greedy", "beam", "min-length", "no-repeat", "greedy-prefix", "unigrams"],
)
def test_search_equals_the_reference(exported: Exported, options: DecodingOptions) -> None:
    model, _ = exported
    texts = sources(model, 24)
    decoded = run(exported, [(ids, options) for ids in texts])
    for ids, answer in zip(texts, decoded, strict=True):
        expected = reference(model, ids, options)
        assert [h.tokens for h in answer.hypotheses] == [h.tokens for h in expected], ids
        for ours, theirs in zip(answer.hypotheses, expected, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
            np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-4)
            assert (ours.finish_reason == "eos") == theirs.finished
            assert len(ours.alignment) == len(ours.tokens)
            assert all(0 <= place <= len(ids) for place in ours.alignment)


def test_company_changes_nothing(exported: Exported) -> None:
    """Every sentence with options of its own, all at once, against each alone."""
    model, _ = exported
    rng = np.random.default_rng(3)
    jobs = [
        (
            ids,
            DecodingOptions(
                max_length=int(rng.integers(5, 45)),
                beam_size=int(rng.choice([1, 2, 4])),
                min_length=int(rng.integers(0, 4)),
                length_penalty=float(rng.choice([0.0, 1.0])),
                no_repeat_ngram_size=int(rng.choice([0, 0, 2])),
            ),
        )
        for ids in sources(model, 60)
    ]
    together = run(exported, jobs)
    for job, answer in zip(jobs, together, strict=True):
        alone = run(exported, [job])[0].hypotheses[0]
        assert answer.hypotheses[0].tokens == alone.tokens
        assert answer.hypotheses[0].score == pytest.approx(alone.score, abs=1e-5)


def attention(runner: OnnxRunner, grid: Grid, texts: list[list[int]]) -> list[Floats]:
    """What each step of a greedy search attends to, of some sentences side by side. Shapes (slot, src)."""
    slots = len(texts)
    grid.admit([np.array([*ids, runner.special_ids.eos]) for ids in texts])
    search = BeamSearch(1, slots, special_ids=runner.special_ids, vocabulary_size=runner.vocabulary_size)
    search.admit([DecodingOptions(max_length=6, min_length=6)] * slots)
    found = []
    for _ in range(5):
        search.advance(grid.step(search.plan()))
        found.append(grid.attention()[:, 0].copy())
    return found


def test_attention_depends_neither_on_company_nor_on_where_a_grid_lies(exported: Exported) -> None:
    model, runner = exported
    if not runner.model.precision.has_attention:
        with pytest.raises(KeyError):
            attention(runner, runner.grid(1, 4), [[5]])
        return
    texts = [[5, 9, 7], list(range(4, 29)), [8] * 11]
    together, elsewhere = (
        attention(runner, grid, texts) for grid in (runner.grid(1, 4), DeviceGrid(runner.model, 1, 4))
    )
    for slot, ids in enumerate(texts):
        for step, alone in enumerate(attention(runner, runner.grid(1, 4), [ids])):
            size = len(ids) + 1
            assert alone[0].sum() == pytest.approx(1, abs=1e-5)
            assert not together[step][slot, size:].any()
            for other in (together, elsewhere):
                # A Transformer's to the bit. What others attend with is itself rounded by the widths of a batch: one
                # softmax over source and target in a decoder-only model, a dot product of states in a recurrent one.
                tolerance = 0 if isinstance(model, Transformer) else 1e-6
                np.testing.assert_allclose(other[step][slot, :size], alone[0, :size], rtol=0, atol=tolerance)
