"""Tokens that are given: forced upon a slot alone, or as one hypothesis among those that are searched for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.step import Floats, Ints

Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # scores, tokens and parents
DEAD = np.float32(-np.inf)  # score of a candidate or a beam that holds no hypothesis


def leave_one(slots: Ints, one: tuple[Floats, Ints, Ints | int], candidates: Parts, pad_id: int) -> None:
    """Leave slots one candidate each.

    Args:
        slots: Shape (chosen slot,), int64.
        one: Its score, token and parent. Shape (chosen slot,) each.
        candidates: Scores, tokens and parents, changed in place. Shape (slot, 2 * beam) each.
        pad_id: Filler, for candidates that are none.
    """
    values: NDArray[Any]
    for values, left, filler in zip(candidates, one, (DEAD, pad_id, 0), strict=True):
        values[slots] = filler
        values[slots, 0] = left


def keep_place(slots: Ints, one: Parts, candidates: Parts, *, eos_id: int, pad_id: int) -> Ints:
    """Let one candidate, which does not end, go on beside the best others; no other ends.

    If it is among those that would go on anyway, all that goes on is what the search would have chosen, in its order.

    Args:
        slots: Shape (chosen slot,), int64.
        one: Its score, token and parent. Shape (chosen slot,) each.
        candidates: Scores, tokens and parents, best first, changed in place. Shape (slot, 2 * beam) each.
        eos_id: End token.
        pad_id: Filler, for candidates that are none.

    Returns:
        The beam that it gets. Shape (chosen slot,), int64.
    """
    rows, beam = np.arange(slots.size), candidates[0].shape[1] // 2
    ends = candidates[1][slots] == eos_id
    live = slots[:, None], np.argsort(ends, axis=1, kind="stable")[:, :beam]
    chosen: Parts = (candidates[0][live], candidates[1][live], candidates[2][live])
    scores, tokens, parents = chosen
    scores[tokens == eos_id], tokens[tokens == eos_id] = DEAD, pad_id
    there: NDArray[np.bool_] = (tokens == one[1][:, None]) & (parents == one[2][:, None]) & (scores > DEAD)
    place: Ints = np.where(there.any(axis=1), there.argmax(axis=1), beam - 1)
    for values, best, given, filler in zip(candidates, chosen, one, (DEAD, pad_id, 0), strict=True):
        best[rows, place] = given
        values[slots] = filler
        values[slots, :beam] = best
    return place
