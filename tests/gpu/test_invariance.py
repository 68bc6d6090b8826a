"""A sentence has the same translation alone and in company, and steps are recorded as CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.offline.gpu_model import BEAMS
from loadtests.offline.searches import Search
from tests.gpu.conftest import Check

pytestmark = pytest.mark.gpu

MIN_INVARIANT = {"fp32": 0.98, "fp16": 0.95}  # share of sentences with the same tokens


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_invariance(check: Check, precision: str) -> None:
    searches = [Search(BEAMS[number % 2], check.asked.max_length) for number in range(len(check.sources))]
    alone = range(max(check.asked.sentences // 4, 1))
    with check.open(precision) as model:
        assert model.records or check.asked.device != "cuda", "decoder steps are not recorded as CUDA graphs"
        together = model.translate(check.sources, searches)
        pairs = [
            (model.translate([source], [search])[0], other)
            for _, source, search, other in zip(alone, check.sources, searches, together, strict=False)
        ]
        recorded = model.records
    tokens = float(np.mean([a.tokens == b.tokens for a, b in pairs]))
    bits = float(np.mean([a == b for a, b in pairs]))
    check.note(
        "invariance", precision,
        sentences=len(pairs), equal_tokens_ratio=tokens, equal_bits_ratio=bits, recorded=recorded,
    )  # fmt: skip
    assert tokens >= MIN_INVARIANT[precision]
