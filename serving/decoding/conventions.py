"""What searches do differently: candidates that a sentence's conventions take out of a step, or put in.

The arguments are those of the slots in flight: ``options`` has the fields of ``SearchConventions`` and
``DecodingOptions`` by name, and ``scores``, ``tokens`` and ``parents`` are a step's candidates, shape
(slot, 2 * beam), changed in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.step import Floats, Ints

END_AFTER_PREFIX = ("any", "best", "costly")
WORTHLESS = np.float32(-1e10)  # sum of log-probabilities that every other exceeds
Options = NDArray[Any]  # structured, shape (slot,)


def shrink_beams(options: Options, finished: Ints, scores: Floats) -> None:
    """Leave no more candidates than the beam has places: each of the ``finished``, shape (slot,), keeps one."""
    shrinks = options["beam_shrinks"]
    if shrinks.any():
        ranks = np.arange(scores.shape[1])
        scores[shrinks[:, None] & (ranks >= scores.shape[1] // 2 - finished[:, None])] = -np.inf


def discourage_end_after_prefix(
    options: Options, positions: Ints, scores: Floats, tokens: Ints, *, eos_id: int, pad_id: int
) -> None:
    """Take the end token out right behind a prefix, or make it worthless, unless it is the best candidate.

    Args:
        options: Of the slots.
        positions: Tokens that each has. Shape (slot,), int64.
        scores: Shape (slot, 2 * beam), float32.
        tokens: Shape (slot, 2 * beam), int64.
        eos_id: End token.
        pad_id: Filler, for candidates that are none.
    """
    rules = options["end_after_prefix"] * ((positions == options["prefix_length"]) & (positions > 0))
    if rules.any():
        ends = (rules[:, None] > 0) & (tokens == eos_id)
        ends[:, 0] = False
        scores[ends] = WORTHLESS
        out = ends & (rules[:, None] == END_AFTER_PREFIX.index("best"))
        scores[out], tokens[out] = -np.inf, pad_id


def end_at_limit(
    options: Options,
    positions: Ints,
    live: Floats,
    scores: Floats,
    tokens: Ints,
    parents: Ints,
    *,
    eos_id: int,
    pad_id: int,
) -> NDArray[np.bool_]:
    """End every hypothesis where one token more is all that fits.

    Args:
        options: Of the slots.
        positions: Tokens that each has. Shape (slot,), int64.
        live: Scores of the hypotheses. Shape (slot, beam), float32.
        scores: Shape (slot, 2 * beam), float32.
        tokens: Shape (slot, 2 * beam), int64.
        parents: Shape (slot, 2 * beam), int64.
        eos_id: End token.
        pad_id: Filler, for candidates that are none.

    Returns:
        Slots that were ended so. Shape (slot,), bool.
    """
    ends: NDArray[np.bool_] = options["ends_at_limit"] & (positions + 1 == options["max_length"])
    ends &= positions >= options["prefix_length"]
    if ends.any():
        beam = live.shape[1]
        scores[ends], tokens[ends] = -np.inf, pad_id
        scores[ends, :beam], tokens[ends, :beam], parents[ends, :beam] = live[ends], eos_id, np.arange(beam)
    return ends
