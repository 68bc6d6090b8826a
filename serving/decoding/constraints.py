"""Constraints on the next token of a hypothesis, as edits of its log-probabilities.

Repetition penalty: the log-probability of every token already produced is multiplied (Keskar et al. 2019, section 4.1,
on log-probabilities). No-repeat n-gram: a token that would complete an n-gram already produced is banned (Paulus et al.
2018, section 2.5). Minimum length: the end token is banned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.step import Edits, Floats, Ints


def edits(
    history: Ints,
    lengths: Ints,
    *,
    penalties: Floats,
    ngram_sizes: Ints,
    min_lengths: Ints,
    eos_id: int,
    pad_id: int,
) -> Edits:
    """Return the edits of one step: one entry per produced token, and one for the end token.

    Args:
        history: Tokens of each hypothesis; values past its length are ignored. Shape (slot, beam, time), int64.
        lengths: Tokens produced so far. Shape (slot,), int64.
        penalties: Repetition penalties; 1 is off. Shape (slot,), float32.
        ngram_sizes: Sizes of n-grams that may not repeat; 0 is off. Shape (slot,), int64.
        min_lengths: Minimum lengths in tokens. Shape (slot,), int64.
        eos_id: Id of the end token.
        pad_id: Id that fills unused entries; every model suppresses it.

    Returns:
        Edits with ``time + 1`` entries per hypothesis.
    """
    slots, beam, time = history.shape
    produced = np.arange(time) < lengths[:, None]  # (slot, time)
    tokens = np.full((slots, beam, time + 1), pad_id, dtype=np.int64)
    factors = np.ones((slots, beam, time + 1), dtype=np.float32)
    biases = np.full((slots, beam, time + 1), -np.inf, dtype=np.float32)
    biases[:, :, :time] = np.where(produced, np.float32(0), np.float32(-np.inf))[:, None]
    tokens[:, :, :time] = np.where(produced[:, None], history, pad_id)
    factors[:, :, :time] = np.where(produced, penalties[:, None], np.float32(1))[:, None]
    banned = np.zeros(0, dtype=bool)
    if ngram_sizes.any():
        banned = _completes_repeated_ngram(history, lengths, ngram_sizes) & produced[:, None]
    if banned.any():
        # A token that occurs twice in the history has two entries, which must agree: ban an entry if any entry of
        # the same token is banned. Axes (slot, beam, entry, other entry).
        alike = tokens[:, :, :time, None] == tokens[:, :, None, :time]
        banned = (alike & banned[:, :, None, :]).any(axis=3)
        biases[:, :, :time][banned] = -np.inf
    too_short = lengths < min_lengths
    tokens[too_short, :, time] = eos_id
    biases[too_short, :, time] = -np.inf
    return Edits(tokens, factors, biases)


def _completes_repeated_ngram(history: Ints, lengths: Ints, ngram_sizes: Ints) -> NDArray[np.bool_]:
    """Mark positions whose token completed an n-gram that starts with the last n-1 tokens. Shape (slot, beam, time)."""
    slots, _, time = history.shape
    banned = np.zeros(history.shape, dtype=bool)
    rows = np.arange(slots)
    for size in np.unique(ngram_sizes[(ngram_sizes > 0) & (ngram_sizes <= time)]):
        match = np.broadcast_to(((ngram_sizes == size) & (lengths >= size))[:, None, None], history.shape).copy()
        # Position p matches if the n-1 tokens before p equal the last n-1 tokens: compare them one distance at a time,
        # history shifted by ``back`` with the token ``back`` from the end.
        match[:, :, : size - 1] = False
        for back in range(1, int(size)):
            last = history[rows, :, np.maximum(lengths - back, 0)]  # (slot, beam)
            match[:, :, back:] &= history[:, :, : time - back] == last[:, :, None]
        banned |= match
    return banned


def joined(first: Edits, second: Edits, *, pad_id: int) -> Edits:
    """Return the edits of both; of a token that is named in both, those of the first."""
    named = (second.tokens[:, :, :, None] == first.tokens[:, :, None]).any(axis=3)
    return Edits(
        np.concatenate([first.tokens, np.where(named, pad_id, second.tokens)], axis=2),
        np.concatenate([first.factors, np.where(named, np.float32(1), second.factors)], axis=2),
        np.concatenate([first.biases, np.where(named, np.float32(-np.inf), second.biases)], axis=2),
    )
