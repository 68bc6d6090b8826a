"""Table of cache entries: the beams of a slot share one pool of them, and dead ones are used again.

Each step writes one entry for every hypothesis. A beam's history is a set of entries, not a range of them: hypotheses
with a common past share its entries, reordering beams moves no keys or values, and an entry that no live hypothesis
descends from is free. So a slot needs about as many entries as positions, not beam times as many. This is paged
attention (Kwon et al. 2023) with pages of one entry; the attention mask is the page table.

One slot of two beams (x: attended to, N: attended to and new)::

    step  parents           entries 0 1 2 3 4  new entry
    1     0 0       beam 0          N . . . .  0
                    beam 1          . N . . .  1
    2     0 0       beam 0          x N . . .  1  (nobody descends from what it held)
                    beam 1          x . N . .  2
    3     1 0       beam 0          x . x N .  3  (the beams swap their histories: no key moves)
                    beam 1          x x . . N  4
"""

from __future__ import annotations

import numpy as np

from serving.step import Floats, Ints

HIDDEN = float(np.finfo(np.float32).min)  # added to an attention score; -inf would make NaN of a row without entries
_FIRST_ENTRIES = 16  # doubles


class CacheTable:
    """The entries of a grid's slots, all of one beam size."""

    def __init__(self, beam: int, slots: int) -> None:
        """Start with all slots idle."""
        self._beam = beam
        self._mask = np.full((slots, beam, _FIRST_ENTRIES), HIDDEN, dtype=np.float32)
        self._places = np.zeros((slots, beam, 2), dtype=np.int64)
        self._places[:, :, 0] = np.arange(slots)[:, None]
        self._rows, self._beams = np.arange(slots)[:, None], np.arange(beam)

    def admit(self, first: int, count: int) -> None:
        """Empty ``count`` slots from ``first`` on."""
        self._mask[first : first + count] = HIDDEN

    def advance(self, parents: Ints) -> tuple[Floats, Ints]:
        """Give every hypothesis its parent's entries and a free one to write.

        Args:
            parents: The beam each hypothesis continues. Shape (slot, beam), int64.

        Returns:
            What each hypothesis may attend to, its new entry included: 0, or ``HIDDEN``. Shape (slot, 1, beam, entry),
            float32, no longer than the last entry in use. And where the new entries are, as (slot, entry) pairs.
            Shape (slot, beam, 2), int64. Both are valid until the next call.
        """
        n = parents.shape[0]
        if self._beam > 1:
            self._mask[:n] = self._mask[self._rows[:n], parents]  # a parent's row for each beam: its history
        while True:
            used = (self._mask[:n] == 0).any(axis=1)  # by any beam: (slot, entry)
            if int(used.sum(axis=1).max()) + self._beam <= used.shape[1]:
                break
            self._mask = np.pad(self._mask, ((0, 0), (0, 0), (0, used.shape[1])), constant_values=HIDDEN)
        # False sorts before True, and a stable sort keeps entries in order: the lowest free ones of each slot.
        free = np.argsort(used, axis=1, kind="stable")[:, : self._beam]  # (slot, beam)
        self._mask[self._rows[:n], self._beams, free] = 0
        self._places[:n, :, 1] = free
        # No attention beyond the last entry in use, old or new; before the first step none is old.
        last = max(int(np.flatnonzero(used.any(axis=0))[-1:].sum()), int(free.max()))
        return self._mask[:n, None, :, : last + 1], self._places[:n]

    def keep(self, order: Ints) -> None:
        """Move slots: slot i gets what slot ``order[i]`` held. Shape (kept slot,), int64."""
        self._mask[: order.size] = self._mask[order]
