"""Memory in use stays flat over mixed requests: every length and both beams, many at a time."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.offline.gpu_model import BEAMS, used_bytes
from loadtests.offline.searches import Search
from tests.gpu.conftest import Check

pytestmark = pytest.mark.gpu

MAX_GROWTH = 0.02  # after a tenth of the requests
AT_ONCE = 250


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_memory(check: Check, precision: str) -> None:
    rng, requests = np.random.default_rng(0), check.asked.requests
    used, done = [], 0
    with check.open(precision) as model:
        while done < requests:
            count = min(AT_ONCE, requests - done)
            picked = [check.sources[number] for number in rng.integers(0, len(check.sources), count)]
            lengths, beams = rng.integers(1, check.asked.max_length + 1, count), rng.choice(BEAMS, count)
            model.translate(picked, [Search(int(b), int(n)) for b, n in zip(beams, lengths, strict=True)])
            done += count
            if done >= max(requests // 10, 1):
                used.append(used_bytes(check.asked.device))
    growth = used[-1] / used[0] - 1
    check.note(
        "memory", precision,
        requests=done, bytes_early=used[0], bytes_late=used[-1], bytes_most=max(used), growth_ratio=growth,
    )  # fmt: skip
    if check.asked.device == "cuda":  # a rehearsal measures a whole process, whose memory is the allocator's
        assert growth <= MAX_GROWTH
