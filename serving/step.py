"""One decoder step between search and model: a plan goes in, candidates come out.

Here alone the search (``serving.decoding``) and what runs the model (``serving.runtime``) meet.

Axes: ``slot`` is one sentence in flight, ``beam`` one of its live hypotheses, ``edit`` one
correction of a log-probability, ``candidate`` one of a sentence's best continuations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Edits:
    """Corrections of log-probabilities, applied in the graph: log p becomes log p * factor + bias.

    Padding entries name the pad token, which is suppressed anyway. No token occurs twice in one hypothesis' list with
    different corrections.

    Attributes:
        tokens: Shape (slot, beam, edit), int64.
        factors: Shape (slot, beam, edit), float32.
        biases: Shape (slot, beam, edit), float32, in nats.
    """

    tokens: Ints
    factors: Floats
    biases: Floats

    @classmethod
    def none(cls, slots: int, beam: int) -> Edits:
        """Return edits of zero length, for a grid in which nobody asked for any."""
        empty = np.empty((slots, beam, 0), dtype=np.float32)
        return cls(np.empty((slots, beam, 0), dtype=np.int64), empty, empty)


@dataclass(frozen=True)
class StepPlan:
    """One decoder step for a grid of slots x beams.

    Attributes:
        tokens: The last token of each hypothesis. Shape (slot, beam), int64.
        parents: The beam each hypothesis continues. Shape (slot, beam), int64.
        positions: The target position of ``tokens``; each slot has its own. Shape (slot,), int64.
        scores: Cumulative log-probability, -inf for a dead beam. Shape (slot, beam), float32.
        targets: The token whose log-probability is asked for, whatever the candidates. Shape (slot, beam), int64.
        edits: Corrections before the candidates are taken.
        candidates: How many candidates to return for each slot.
    """

    tokens: Ints
    parents: Ints
    positions: Ints
    scores: Floats
    targets: Ints
    edits: Edits
    candidates: int


@dataclass(frozen=True)
class Candidates:
    """The best continuations of each slot over (beam x vocabulary), best first; ties: lower beam, then lower token.

    Attributes:
        scores: Cumulative log-probability with the new token. Shape (slot, candidate), float32.
        tokens: Shape (slot, candidate), int64.
        parents: The beam each candidate continues. Shape (slot, candidate), int64.
        target_log_probs: Unedited log-probability of ``StepPlan.targets``. Shape (slot, beam), float32.
        alignment: Source position each hypothesis attends to most at this step. Shape (slot, beam), int64.
    """

    scores: Floats
    tokens: Ints
    parents: Ints
    target_log_probs: Floats
    alignment: Ints
