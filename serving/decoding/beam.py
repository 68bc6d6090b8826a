"""Beam search (greedy is a beam of one): a state machine over arrays, vectorised over slots.

The search never owns the loop: the caller runs ``plan`` -> model -> ``advance`` until slots finish.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.decoding.hypothesis import Hypothesis
from serving.decoding.options import DecodingOptions
from serving.decoding.step import Candidates, Ints, StepPlan


class BeamSearch:
    """The live and finished hypotheses of a grid of slots, all of one beam size."""

    def __init__(self, beam: int, slots: int, *, decoder_start_id: int, eos_id: int, pad_id: int) -> None:
        """Allocates for up to ``slots`` sentences."""
        raise NotImplementedError

    @property
    def busy(self) -> int:
        """Sentences in flight; their slots are 0 .. busy-1."""
        raise NotImplementedError

    def admit(self, options: Sequence[DecodingOptions]) -> None:
        """Starts one sentence for each of ``options`` in the next slots, in order."""
        raise NotImplementedError

    def plan(self) -> StepPlan:
        """What the model must compute next, one row for each busy slot."""
        raise NotImplementedError

    def advance(self, candidates: Candidates) -> Ints:
        """Takes the model's answer to the last plan; returns the slots that finished. Shape (finished,), int64."""
        raise NotImplementedError

    def hypotheses(self, slot: int) -> list[Hypothesis]:
        """The n best hypotheses of a finished slot, best first."""
        raise NotImplementedError

    def keep(self, order: Ints) -> None:
        """Keeps some slots and frees the rest: afterwards slot i holds what slot ``order[i]`` held."""
        raise NotImplementedError
