"""Search for translations that differ: diverse beam search (Vijayakumar et al. 2016) over arrays.

The beam is divided into groups of one size, each a beam search of its own. At each step a group ranks its candidates
with a penalty for every hypothesis of the groups before it that goes on with the same token (the paper's Hamming
diversity), so that the first group finds what a search of its size finds. The penalty only ranks: scores are the
model's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.step import Candidates, Floats, Ints

_SHARE = 16  # candidates of a hypothesis, on the average


class GroupSearch:
    """How many hypotheses have ended in each group of each slot of a grid."""

    def __init__(self, beam: int, slots: int) -> None:
        self._beam = beam
        self._ended = np.zeros((slots, beam), dtype=np.int64)  # (slot, group)

    def start(self, slot: int) -> None:
        """Begin a slot anew."""
        self._ended[slot] = 0

    def candidates(self) -> int:
        """Return how many candidates a slot needs, so that those of every group are among them."""
        return self._beam * _SHARE

    def choose(
        self,
        slots: Ints,
        scores: Floats,
        candidates: Candidates,
        *,
        groups: Ints,
        penalties: Floats,
        first: NDArray[np.bool_],
        eos_id: int,
        pad_id: int,
    ) -> tuple[Floats, Ints, Ints]:
        """Return scores, tokens and parents of the candidates that some slots choose.

        Args:
            slots: Those with groups. Shape (chosen slot,), int64.
            scores: Of all live hypotheses. Shape (slot, beam), float32.
            candidates: Of all slots, with scores as if all live hypotheses had 0.
            groups: Number of groups; the beam is a multiple of it. Shape (chosen slot,), int64.
            penalties: What it costs to go on as another group does, in nats. Shape (chosen slot,), float32.
            first: Whether all groups go on from the only hypothesis. Shape (chosen slot,), bool.
            eos_id: End token.
            pad_id: Filler, for candidates that are none.

        Returns:
            In the first ``beam`` places what ends, behind them what goes on, by group; the others are dead ends. Each
            shape (chosen slot, 2 * beam).
        """
        rows, width, beam = slots[:, None], self.candidates(), self._beam
        tokens, parents = candidates.tokens[slots, :width], candidates.parents[slots, :width]
        totals = candidates.scores[slots, :width] + scores[rows, parents]
        sizes = beam // groups
        of_group = parents // sizes[:, None]
        used = np.zeros(tokens.shape, dtype=np.int64)  # by hypotheses of groups before
        shape = slots.size, 2 * beam
        chosen = np.full(shape, -np.inf, np.float32), np.full(shape, pad_id), np.zeros(shape, np.int64)
        chosen[1][:, :beam] = eos_id  # what goes on begins behind these, whether or not they are alive
        for group in range(int(groups.max())):
            open_ = (group < groups) & (self._ended[slots, group] < sizes)
            own = ((of_group == group) | first[:, None]) & open_[:, None] & (totals > -np.inf)
            ranked = np.argsort(np.where(own, penalties[:, None] * used - totals, np.inf), axis=1, kind="stable")
            own, ends = (np.take_along_axis(values, ranked, axis=1) for values in (own, tokens == eos_id))
            ends &= own & (np.arange(ends.shape[1]) < sizes[:, None])  # an end counts among the best only
            self._ended[slots, group] += ends.sum(axis=1)
            goes_on = own & (np.take_along_axis(tokens, ranked, axis=1) != eos_id)
            goes_on &= (np.cumsum(goes_on, axis=1) <= sizes[:, None]) & (self._ended[slots, group] < sizes)[:, None]
            for kept, offset in ((ends, 0), (goes_on, beam)):
                which, rank = np.nonzero(kept)
                place = offset + group * sizes[which] + (np.cumsum(kept, axis=1) - 1)[which, rank]
                there, from_ = (which, place), (which, ranked[which, rank])
                chosen[0][there], chosen[1][there], chosen[2][there] = totals[from_], tokens[from_], parents[from_]
            told = np.where(chosen[0][:, beam:] > -np.inf, chosen[1][:, beam:], -1)
            used = (tokens[:, :, None] == told[:, None]).sum(axis=2)
        return chosen

    def keep(self, sources: Ints, targets: Ints) -> None:
        """Copy slots ``sources`` to slots ``targets``. Shapes (move,), int64."""
        self._ended[targets] = self._ended[sources]


def leaders_first(groups: Ints) -> Ints:
    """Return the order in which the best of each group come before the others. Shapes (hypothesis,), int64."""
    _, first = np.unique(groups, return_index=True)
    others = np.ones(groups.size, dtype=bool)
    others[first] = False
    order: Ints = np.argsort(others, kind="stable")
    return order
