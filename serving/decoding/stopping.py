"""When a beam search stops: four rules, and one of searches for terms, for all slots at once.

All compare scores, sums of log-probabilities over length ** alpha. What an unfinished hypothesis can still reach is
guessed from its present length, or bounded from above by the length limit: sums only fall, and none grows longer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.decoding.finished import FinishedPool
from serving.decoding.options import DecodingOptions
from serving.messages import EarlyStopping
from serving.step import Floats, Ints

RULES = tuple(EarlyStopping)
ON, BEST, HEURISTIC, NEVER = range(len(RULES))
# Where terms come late, hypotheses that used them too early end first: the best must be no worse than any live one.
OUTDONE = len(RULES)


def rule_of(options: DecodingOptions) -> int:
    """Return the number of a sentence's rule."""
    if options.terms is not None:
        return OUTDONE
    return RULES.index(options.early_stopping) if options.beam_size > options.groups else ON


def stopped(
    rules: Ints,
    pool: FinishedPool,
    beam: int,
    *,
    totals: Floats,
    lengths: Ints,
    limits: Ints,
    alphas: Floats,
    n: Ints,
    enough: Ints,
) -> NDArray[np.bool_]:
    """Tell which slots have found what they look for.

    Args:
        rules: Index into ``RULES``, or ``OUTDONE``. Shape (slot,), int64.
        pool: What has ended; of slots that wait for better hypotheses, at most ``beam``.
        beam: Size of the beam.
        totals: Sum of log-probabilities of the best unfinished hypothesis, -inf without one. Shape (slot,), float32.
        lengths: Its length in tokens. Shape (slot,), int64.
        limits: Length that it can have at most. Shape (slot,), int64.
        alphas: Length penalties. Shape (slot,), float64.
        n: Hypotheses wanted. Shape (slot,), int64.
        enough: Hypotheses that end a search for terms. Shape (slot,), int64.

    Returns:
        Shape (slot,), bool.
    """
    count = pool.count[: rules.size]
    full = count >= beam
    reach = np.maximum(np.where(rules == NEVER, limits, lengths), 1).astype(np.float64)
    hope = totals / reach**alphas
    beaten = hope <= pool.nth(np.where(rules == BEST, n, np.where(rules == OUTDONE, 1, beam)))
    sooner: NDArray[np.bool_] = beaten & ((rules == BEST) | ((rules == OUTDONE) & (count >= enough)))
    return np.where(waits(rules), full & beaten, full | sooner)


def waits(rules: Ints) -> NDArray[np.bool_]:
    """Tell which rules wait for better hypotheses when the beam's number of them has ended. Shape (slot,)."""
    return np.asarray((rules == HEURISTIC) | (rules == NEVER))
