"""Hypotheses that ended, kept until their sentence does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.messages import FinishReason
from serving.step import Floats, Ints

_REASONS = (FinishReason.EOS, FinishReason.LENGTH)


class FinishedPool:
    """Up to ``2 * beam`` ended hypotheses a slot, each as its row of the ancestor table.

    Attributes:
        count: Hypotheses a slot. Shape (slot,), int64.
    """

    def __init__(self, beam: int, slots: int, time: int) -> None:
        # A slot ends once it has ``beam``, and one step adds at most ``beam``.
        size = 2 * beam
        self.count = np.zeros(slots, dtype=np.int64)
        self._scores = np.zeros((slots, size), dtype=np.float64)
        self._lengths = np.zeros((slots, size), dtype=np.int64)
        self._end_log_probs = np.zeros((slots, size), dtype=np.float32)
        self._reasons = np.zeros((slots, size), dtype=np.int64)
        self._ancestors = np.zeros((slots, size, time), dtype=np.int64)

    def reserve(self, time: int) -> None:
        """Makes room for ``time`` target positions."""
        more = time - self._ancestors.shape[2]
        self._ancestors = np.pad(self._ancestors, ((0, 0), (0, 0), (0, more)))

    def clear(self, slot: int) -> None:
        """Forgets a slot's hypotheses."""
        self.count[slot] = 0

    def add(
        self,
        slots: Ints,
        scores: NDArray[np.float64],
        lengths: Ints,
        end_log_probs: Floats,
        ancestors: Ints,
        reason: FinishReason,
    ) -> None:
        """Adds hypotheses, grouped by slot and best first within one.

        Args:
            slots: Ascending, repeated where a slot adds several. Shape (hypothesis,), int64.
            scores: Normalised. Shape (hypothesis,), float64.
            lengths: Tokens without the end token. Shape (hypothesis,), int64.
            end_log_probs: Of the end token, 0 without one. Shape (hypothesis,), float32.
            ancestors: Shape (hypothesis, time), int64; ``time`` at most what was reserved.
            reason: Why they ended.
        """
        first = np.searchsorted(slots, slots, side="left")
        at = self.count[slots] + np.arange(slots.size) - first
        self._scores[slots, at] = scores
        self._lengths[slots, at] = lengths
        self._end_log_probs[slots, at] = end_log_probs
        self._reasons[slots, at] = _REASONS.index(reason)
        self._ancestors[slots, at, : ancestors.shape[1]] = ancestors
        np.add.at(self.count, slots, 1)

    def best(self, slot: int, n: int) -> list[tuple[float, int, float, FinishReason, Ints]]:
        """The n best of a slot as score, length, end log-probability, reason, ancestors (time,); ties keep order."""
        ranked = np.argsort(-self._scores[slot, : self.count[slot]], kind="stable")[:n]
        return [
            (
                float(self._scores[slot, i]),
                int(self._lengths[slot, i]),
                float(self._end_log_probs[slot, i]),
                _REASONS[self._reasons[slot, i]],
                self._ancestors[slot, i],
            )
            for i in ranked
        ]

    def move(self, sources: Ints, targets: Ints) -> None:
        """Copies slots ``sources`` over slots ``targets``. Shapes (move,), int64."""
        for array in (
            self.count,
            self._scores,
            self._lengths,
            self._end_log_probs,
            self._reasons,
            self._ancestors,
        ):
            array[targets] = array[sources]
