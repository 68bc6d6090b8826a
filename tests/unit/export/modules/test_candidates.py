"""The end of the decoder graph against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.modules.candidates import Listed, best_candidates
from export.modules.contract import StepInputs

SLOTS, BEAM, VOCABULARY = 3, 2, 9
SUPPRESSED = (0, 2)


def step(*, edits: int, candidates: int) -> StepInputs:
    generator = torch.Generator().manual_seed(edits)
    scores = torch.randn(SLOTS, BEAM, generator=generator)
    scores[1, 1] = -torch.inf  # a dead beam
    edit_tokens = torch.stack(
        [torch.randperm(VOCABULARY, generator=generator)[:edits] for _ in range(SLOTS * BEAM)]
    ).reshape(SLOTS, BEAM, edits)
    factors = torch.rand(SLOTS, BEAM, edits, generator=generator) + 1
    biases = torch.where(torch.rand(SLOTS, BEAM, edits, generator=generator) < 0.3, -torch.inf, 0.0)
    nothing = torch.zeros(SLOTS, BEAM, dtype=torch.int64)
    targets = torch.randint(3, VOCABULARY, (SLOTS, BEAM), generator=generator)
    return StepInputs(
        nothing,
        nothing,
        nothing[:, 0],
        nothing[:, :, None],
        scores[:, None, :, None],
        scores,
        targets,
        edit_tokens,
        factors,
        biases,
        torch.arange(candidates),
    )


@pytest.mark.parametrize(("edits", "candidates"), [(0, 4), (3, 4), (5, 9)])
def test_candidates_are_the_best_of_beam_times_vocabulary(edits: int, candidates: int) -> None:
    logits = torch.randn(SLOTS, BEAM, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3
    inputs = step(edits=edits, candidates=candidates)
    scores, tokens, parents, targets = best_candidates(logits, torch.tensor(SUPPRESSED), inputs)
    log_probs = torch.log_softmax(logits, -1).numpy()
    for slot in range(SLOTS):
        edited = log_probs[slot].copy()
        for beam in range(BEAM):
            assert targets[slot, beam] == pytest.approx(log_probs[slot, beam, inputs.targets[slot, beam]])
            for edit in range(edits):
                token = inputs.edit_tokens[slot, beam, edit]
                factor, bias = inputs.edit_factors[slot, beam, edit], inputs.edit_biases[slot, beam, edit]
                edited[beam, token] = edited[beam, token] * factor + bias
        edited[:, list(SUPPRESSED)] = -np.inf
        total = edited + inputs.scores[slot, :, None].numpy()
        expected = -np.sort(-total.ravel())[:candidates]
        np.testing.assert_allclose(scores[slot].numpy(), expected, rtol=1e-5)
        alive = np.isfinite(expected)
        own = total[parents[slot].numpy(), tokens[slot].numpy()]
        np.testing.assert_allclose(own[alive], expected[alive], rtol=1e-5)
        assert not set(tokens[slot].numpy()[alive]) & set(SUPPRESSED)


def listed(*rows: list[int]) -> Listed:
    """A shortlist for each slot, padded with token 0."""
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    index = torch.full((len(rows), VOCABULARY + 1), -1, dtype=torch.int32)
    for slot, row in enumerate(rows):
        tokens[slot, : len(row)] = torch.tensor(row)
        index[slot, row] = torch.arange(len(row), dtype=torch.int32)
    return Listed(tokens, index)


@pytest.mark.parametrize(("edits", "candidates"), [(0, 4), (3, 4), (5, 9)])
def test_of_a_shortlist_they_are_those_of_the_vocabulary_without_all_other_tokens(edits: int, candidates: int) -> None:
    rows = [3, 4, 8], [1, 3, 5, 6, 7], [0, 2, 4]
    inputs, suppressed = step(edits=edits, candidates=candidates), torch.tensor(SUPPRESSED)
    whole = torch.full((SLOTS, BEAM, VOCABULARY), -torch.inf)
    own = torch.full((SLOTS, BEAM, max(map(len, rows))), -torch.inf)
    for slot, row in enumerate(rows):
        own[slot, :, : len(row)] = torch.randn(BEAM, len(row), generator=torch.Generator().manual_seed(slot)) * 3
        whole[slot, :, row] = own[slot, :, : len(row)]
    expected = best_candidates(whole, suppressed, inputs)
    found = best_candidates(own, suppressed, inputs, listed(*rows))
    alive = torch.isfinite(expected[0])
    assert not alive.all()
    for one, other in zip(expected[:3], found[:3], strict=True):
        torch.testing.assert_close(one[alive], other[alive])
    assert (found[0][~alive] == -torch.inf).all()
    torch.testing.assert_close(found[3], expected[3])


def test_a_nan_shows_in_a_target_that_is_not_on_the_shortlist() -> None:
    inputs = step(edits=0, candidates=4)
    assert not (inputs.targets == 0).any()
    targets = best_candidates(
        torch.full((SLOTS, BEAM, 1), torch.nan), torch.tensor(SUPPRESSED), inputs, listed([0], [0], [0])
    )
    assert targets[3].isnan().all()
