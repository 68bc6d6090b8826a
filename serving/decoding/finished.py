"""Finished hypotheses, kept until their sentence finishes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.messages import FinishReason
from serving.step import Floats, Ints


class FinishedPool:
    """Up to ``2 * beam`` finished hypotheses per slot, each stored as its row of the ancestor table.

    Attributes:
        count: Hypotheses per slot. Shape (slot,), int64.
    """

    def __init__(self, beam: int, slots: int, time: int) -> None:
        # A slot finishes once it has ``beam`` or is trimmed to them, and one step adds at most ``beam``.
        self._beam, size = beam, 2 * beam
        self.count = np.zeros(slots, dtype=np.int64)
        self._scores = np.zeros((slots, size), dtype=np.float64)
        self._lengths = np.zeros((slots, size), dtype=np.int64)
        self._end_log_probs = np.zeros((slots, size), dtype=np.float32)
        self._ended = np.zeros((slots, size), dtype=np.bool_)
        self._ancestors = np.zeros((slots, size, time), dtype=np.int64)

    def reserve(self, time: int) -> None:
        """Grow to hold ``time`` target positions."""
        more = time - self._ancestors.shape[2]
        self._ancestors = np.pad(self._ancestors, ((0, 0), (0, 0), (0, more)))

    def clear(self, slot: int) -> None:
        """Discard the hypotheses of a slot."""
        self.count[slot] = 0

    def add(
        self,
        slots: Ints,
        scores: NDArray[np.float64],
        lengths: Ints,
        end_log_probs: Floats,
        ancestors: Ints,
        ended: NDArray[np.bool_],
    ) -> None:
        """Add hypotheses, grouped by slot and best first within a slot.

        Args:
            slots: Slot of each, ascending; repeated if a slot adds several. Shape (hypothesis,), int64.
            scores: Normalised scores. Shape (hypothesis,), float64.
            lengths: Numbers of tokens without the end token. Shape (hypothesis,), int64.
            end_log_probs: Log-probability of the end token in nats, 0 without one. Shape (hypothesis,), float32.
            ancestors: Rows of the ancestor table, at most as long as reserved. Shape (hypothesis, time), int64.
            ended: Whether the model ended it; otherwise the length limit did. Shape (hypothesis,), bool.
        """
        # Number the hypotheses of each slot: slots [0, 0, 2] start at [0, 0, 2], so they go 0, 1 and 0 after ``count``.
        first = np.searchsorted(slots, slots, side="left")
        at = self.count[slots] + np.arange(slots.size) - first
        self._scores[slots, at] = scores
        self._lengths[slots, at] = lengths
        self._end_log_probs[slots, at] = end_log_probs
        self._ended[slots, at] = ended
        self._ancestors[slots, at, : ancestors.shape[1]] = ancestors
        np.add.at(self.count, slots, 1)  # unlike ``count[slots] += 1``, counts a repeated slot each time

    def nth(self, n: Ints) -> NDArray[np.float64]:
        """Return the n-th best score of each of the first slots, -inf where there are fewer. Shapes (slot,)."""
        slots = np.arange(n.size)
        there = np.arange(self._scores.shape[1]) < self.count[: n.size, None]
        ranked = np.sort(np.where(there, self._scores[: n.size], -np.inf), axis=1)
        found: NDArray[np.float64] = ranked[slots, -n]
        return found

    def trim(self, slots: Ints) -> None:
        """Keep the ``beam`` best of slots that have more. Shape (trimmed slot,), int64."""
        slots = slots[self.count[slots] > self._beam]
        if slots.size == 0:
            return
        there = np.arange(self._scores.shape[1]) < self.count[slots, None]
        ranked = np.argsort(-np.where(there, self._scores[slots], -np.inf), axis=1, kind="stable")[:, : self._beam]
        for array in (self._scores, self._lengths, self._end_log_probs, self._ended, self._ancestors):
            array[slots, : self._beam] = array[slots[:, None], ranked]
        self.count[slots] = self._beam

    def best(self, slot: int, n: int) -> list[tuple[float, int, float, FinishReason, Ints]]:
        """Return the n best as score, length, end log-probability, reason, ancestors (time,); ties keep their order."""
        ranked = np.argsort(-self._scores[slot, : self.count[slot]], kind="stable")[:n]
        return [
            (
                float(self._scores[slot, i]),
                int(self._lengths[slot, i]),
                float(self._end_log_probs[slot, i]),
                FinishReason.EOS if self._ended[slot, i] else FinishReason.LENGTH,
                self._ancestors[slot, i],
            )
            for i in ranked
        ]

    def best_scores(self, slots: Ints) -> NDArray[np.float64]:
        """Return the best score of each slot, -inf without one. Shape (slot,), float64."""
        there = np.arange(self._scores.shape[1]) < self.count[slots][:, None]
        best: NDArray[np.float64] = np.where(there, self._scores[slots], -np.inf).max(axis=1)
        return best

    def leaders(self, slots: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the ancestors (slot, time) of the best hypothesis of each slot, and whether it has one (slot,)."""
        count = self.count[slots]
        there = np.arange(self._scores.shape[1]) < count[:, None]
        best = np.where(there, self._scores[slots], -np.inf).argmax(axis=1)
        return self._ancestors[slots, best], count > 0

    def move(self, sources: Ints, targets: Ints) -> None:
        """Copy slots ``sources`` to slots ``targets``. Shapes (move,), int64."""
        for array in (
            self.count,
            self._scores,
            self._lengths,
            self._end_log_probs,
            self._ended,
            self._ancestors,
        ):
            array[targets] = array[sources]
