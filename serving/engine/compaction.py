"""Compaction of a grid: the holes that finished sentences leave are closed."""

from __future__ import annotations

import numpy as np

from serving.step import Ints


def compaction(busy: int, freed: Ints) -> Ints:
    """Fill holes from the tail, moving as few slots as possible.

    Args:
        busy: Slots in use: 0 .. busy-1.
        freed: Distinct slots to free. Shape (freed slot,), int64.

    Returns:
        ``order``: afterwards slot i holds what slot ``order[i]`` held; it is i or lies behind all kept.
        Shape (kept slot,), int64.
    """
    occupied = np.ones(busy, dtype=bool)
    occupied[freed] = False
    kept = busy - freed.size
    order = np.arange(kept)
    order[~occupied[:kept]] = kept + np.flatnonzero(occupied[kept:])
    return order
