"""Serving's search over a model in PyTorch, many sentences at once: no graph, no engine, the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.modules.candidates import best_candidates, without_banned
from export.modules.contract import StepInputs
from export.trained_model import TrainedModel
from serving.decoding.beam import BeamSearch
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.step import Candidates, StepPlan
from training.data.batches import make_source


class TorchGrid:
    """All slots of a batch of sentences that begin together; rows are slot x beam.

    ``noise`` moves every logit by as much as rounding might, normally distributed with this deviation.
    """

    def __init__(
        self, trained: TrainedModel, sources: Sequence[Sequence[int]], beam: int, *, noise: float, seed: int
    ) -> None:
        self._model, self._beam = trained.model, beam
        self._noise, self._random = noise, torch.Generator().manual_seed(seed)
        self._renormalize = trained.search.renormalize
        self._suppressed = torch.tensor(trained.vocabulary.suppressed, dtype=torch.int64)
        rows = torch.arange(len(sources)).repeat_interleave(beam)
        self._state: Any = self._model.encode(*make_source(sources, trained.vocabulary, reverse=False)).select(rows)

    def keep(self, order: NDArray[np.int64]) -> None:
        """Keep the slots named."""
        rows = torch.from_numpy(order)[:, None] * self._beam + torch.arange(self._beam)
        self._state = self._state.select(rows.flatten())

    def step(self, plan: StepPlan) -> Candidates:
        """Compute what the decoder's graph computes."""
        slots, beam = plan.tokens.shape
        rows = torch.arange(slots)[:, None] * beam + torch.from_numpy(plan.parents)
        state = self._state.select(rows.flatten())
        logits, self._state = self._model.decode_step(torch.from_numpy(plan.tokens).flatten(), state)
        logits = logits.reshape(slots, beam, -1)
        if self._noise:
            logits = logits + self._noise * torch.randn(logits.shape, generator=self._random)
        nothing = torch.zeros(0)
        inputs = StepInputs(
            tokens=torch.from_numpy(plan.tokens),
            parents=nothing,
            positions=nothing,
            places=nothing,
            mask=nothing,
            scores=torch.from_numpy(plan.scores),
            targets=torch.from_numpy(plan.targets),
            edit_tokens=torch.from_numpy(plan.edits.tokens),
            edit_factors=torch.from_numpy(plan.edits.factors),
            edit_biases=torch.from_numpy(plan.edits.biases),
            ranks=torch.arange(plan.candidates),
        )
        if self._renormalize:
            logits = without_banned(logits, self._suppressed, inputs, None)
        scores, tokens, parents, targets = best_candidates(logits, self._suppressed, inputs)
        found = (scores, tokens, parents, targets, torch.zeros_like(inputs.tokens))
        return Candidates(*(tensor.numpy() for tensor in found))


@torch.inference_mode()
def translated(
    trained: TrainedModel,
    sources: Sequence[Sequence[int]],
    options: DecodingOptions,
    *,
    noise: float = 0.0,
    seed: int = 0,
) -> list[list[FinishedHypothesis]]:
    """Translate token ids without special ones; ``n_best`` hypotheses of each, best first."""
    beam, answers = options.beam_size, [list[FinishedHypothesis]() for _ in sources]
    search = BeamSearch(
        beam, len(sources), special_ids=trained.special_ids, vocabulary_size=trained.vocabulary.target_size
    )
    search.admit([options] * len(sources))
    grid, running = TorchGrid(trained, sources, beam, noise=noise, seed=seed), np.arange(len(sources))
    while running.size:
        finished = search.advance(grid.step(search.plan()))
        for slot in finished.tolist():
            answers[running[slot]] = search.hypotheses(slot)
        if finished.size:
            order = np.setdiff1d(np.arange(running.size), finished)
            search.keep(order)
            grid.keep(order)
            running = running[order]
    return answers
