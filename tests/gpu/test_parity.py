"""A GPU computes what the CPU computes, and fp16 what fp32 does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from loadtests.offline.corpus import bleu
from loadtests.offline.gpu_model import BEAMS
from serving.decoding.hypothesis import FinishedHypothesis
from tests.gpu.conftest import Check

pytestmark = pytest.mark.gpu

MAX_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.1}  # nats, of sentences with the same tokens
MIN_EQUAL = {"fp32": 0.98, "fp16": 0.9}  # share of sentences with the same tokens
MAX_BLEU_LOSS = 0.3


def agreement(expected: Sequence[FinishedHypothesis], found: Sequence[FinishedHypothesis]) -> tuple[float, float]:
    """Share of sentences with the same tokens, and the largest difference of their log-probabilities."""
    same = [(a, b) for a, b in zip(expected, found, strict=True) if a.tokens == b.tokens]
    largest = max((float(np.abs(np.subtract(a.log_probs, b.log_probs)).max()) for a, b in same), default=float("inf"))
    return len(same) / len(expected), largest


@pytest.mark.parametrize("beam", BEAMS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parity(check: Check, precision: str, beam: int) -> None:
    assert precision in check.bundle.manifest.precisions, "export the bundle with --precisions fp32,int8,fp16"
    device = check.asked.device
    reference = "host" if precision == "fp32" else device
    expected = check.translations(reference, "fp32", beam)
    found = check.translations(device, precision, beam)
    equal, difference = agreement(expected, found)
    scores = [
        bleu(check.bundle, [list(one.tokens) for one in rows], check.corpus.references) for rows in (expected, found)
    ]
    check.note(
        "parity", f"{precision}, beam {beam}",
        equal_ratio=equal, max_difference=difference, bleu_expected=scores[0], bleu=scores[1],
    )  # fmt: skip
    assert equal >= MIN_EQUAL[precision]
    assert difference <= MAX_DIFFERENCE[precision]
    assert (scores[0] or 0) - (scores[1] or 0) <= MAX_BLEU_LOSS
