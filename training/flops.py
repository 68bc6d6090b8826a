"""Floating-point operations of a training step, and the share of a GPU's peak that they make up.

PyTorch's own counter counts the products of a model at a few small sizes. For any architecture without a loop over
steps the count is a polynomial of second degree in source and target length, for recurrent ones of first degree; its
coefficients are found by least squares and give the count of every batch without running the counter.
"""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.data.batches import Batch
from training.models.contract import LanguageModel

SIZES = (2, 5, 9)
BACKWARD = 2  # a backward pass has two products for each of the forward pass: by the inputs, and by the weights

# Peak of the tensor cores in bfloat16 (V100, T4: float16), without sparsity, FLOP/s, by the maker's data sheets; of
# several forms of a card the fastest.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}


def _terms(source: float, target: float) -> list[float]:
    return [1.0, source, target, source * source, target * target, source * target]


class FlopModel:
    """Counts the operations of training steps of one model.

    Args:
        model: On the CPU, as first built.
    """

    def __init__(self, model: LanguageModel) -> None:
        sizes = list(product(SIZES, SIZES))
        counts = [_count(model, source, target) for source, target in sizes]
        design = np.array([_terms(source, target) for source, target in sizes])
        self._coefficients = np.linalg.lstsq(design, np.array(counts, dtype=np.float64), rcond=None)[0]
        with torch.no_grad():
            hidden = model.hidden(*_sample(model, 1, 1))
            with FlopCounterMode(display=False) as counter:
                model.project_vocab(hidden)
        self._per_token = counter.get_total_flops()

    def of(self, batch: Batch) -> float:
        """Operations of forward and backward pass over a batch, padding included where it is computed.

        Only real target tokens are projected onto the vocabulary; of a step with several batches their mean number is
        taken, which is right for the step.
        """
        rows, source = batch.source.shape
        hidden = rows * float(self._coefficients @ _terms(source, batch.target_in.shape[1]))
        return float((1 + BACKWARD) * (hidden + self._per_token * batch.normaliser))


def _sample(model: LanguageModel, source: int, target: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    eos = model.vocabulary.eos
    return torch.full((1, source), eos), torch.tensor([source]), torch.full((1, target), eos)


@torch.no_grad()
def _count(model: LanguageModel, source: int, target: int) -> int:
    # The CPU's fused attention hides its products from the counter.
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        model.hidden(*_sample(model, source, target))
    return int(counter.get_total_flops())


def peak_flops(device: torch.device) -> float | None:
    """Peak of a device in bfloat16, FLOP/s; None where it is not known."""
    if device.type != "cuda":
        return None
    words = re.split(r"[ -]", torch.cuda.get_device_name(device))
    return next((PEAKS[word] for word in words if word in PEAKS), None)
