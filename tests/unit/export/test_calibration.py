"""The step of a quantized input is the best one, and what is watched is what the graph multiplies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.calibration import Histogram, calibrate
from tests.parity.models import build


def error(values: torch.Tensor, step: float, levels: int) -> float:
    return float(((values / step).round().clip(-levels, levels).mul(step) - values).square().mean())


def samples(kind: str) -> torch.Tensor:
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if kind == "uniform":
        return 2 * uniform - 1
    if kind == "normal":
        normal: torch.Tensor = torch.special.ndtri(uniform)
        return normal
    return torch.sign(uniform - 0.5) * -torch.log1p(-2 * (uniform - 0.5).abs())


# Where to clip at 8 bits: Banner, Nahshan and Soudry (2019), "Post training 4-bit quantization", section 3.
@pytest.mark.parametrize(("kind", "clip"), [("uniform", 1.0), ("normal", 3.92), ("laplace", 9.89)])
def test_known_distributions_are_clipped_where_theory_says(kind: str, clip: float) -> None:
    histogram = Histogram()
    for part in samples(kind).chunk(7):
        histogram.add(part)
    assert histogram.step(127) * 127 == pytest.approx(clip, rel=0.06)


@pytest.mark.parametrize("kind", ["uniform", "normal", "laplace"])
@pytest.mark.parametrize("levels", [127, 255])
def test_no_other_step_has_a_notably_smaller_error(kind: str, levels: int) -> None:
    values = samples(kind)
    if levels == 255:
        values = values.relu()
    histogram = Histogram()
    histogram.add(values)
    found = error(values, histogram.step(levels), levels)
    largest = float(values.abs().max())
    assert found <= 1.01 * min(error(values, largest * share / levels, levels) for share in np.linspace(0.02, 1, 200))


def test_the_order_and_the_sizes_of_the_parts_hardly_matter() -> None:
    values = samples("laplace")
    steps = []
    for parts in (1, 50, 1000):
        histogram = Histogram()
        for part in values.sort().values.chunk(parts):
            histogram.add(part)
        steps.append(histogram.step(127))
    assert steps == pytest.approx([steps[0]] * 3, rel=0.02)


def test_nothing_but_zeros_has_a_step() -> None:
    histogram = Histogram()
    histogram.add(torch.zeros(3))
    assert histogram.step(127) == 1.0


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Histogram().add(torch.tensor([1.0, torch.inf]))


@pytest.mark.parametrize("name", ["transformer-pre-norm", "lstm-bahdanau", "gru-luong-general", "decoder-only"])
def test_every_matrix_that_is_multiplied_is_watched(name: str) -> None:
    model = build(name)
    inputs = calibrate(model, [[5, 6, 7], [8]], [[9, 10], [11, 12, 13]], reverse=False)
    looked_up = {"source_embedding.weight", "target_embedding.weight"}
    recurrent = {key for key, _ in model.named_parameters() if key.startswith("encoder.rnn.")}
    matrices = {key for key, value in model.named_parameters() if value.ndim == 2}
    assert matrices - looked_up - recurrent <= inputs.keys() <= matrices
    assert not any(module._forward_pre_hooks for module in model.modules())
