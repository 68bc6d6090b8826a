"""Which pairs make up each batch: a pure function of seed and position, so that a run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Position(NamedTuple):
    """A place in the endless order of batches: the next batch is number `batch` of pass `epoch`."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How pairs are grouped.

    Attributes:
        tokens: Most tokens of a batch a side, padding included.
        window: Pairs that are sorted by length together; larger means less padding, and batches that are more alike.
    """

    tokens: int = 4096
    window: int = 20_000


def cut_batches(
    rows: NDArray[np.int64], source: NDArray[np.int32], target: NDArray[np.int32], budget: int
) -> list[NDArray[np.int64]]:
    """Cut length-sorted rows so that the padded size of each batch stays within the budget.

    Args:
        rows: Shape (row,), indices of pairs, in order.
        source: Shape (row,), source length of each of them, special tokens included.
        target: Shape (row,), target length likewise.
        budget: Most rows x longest row of a batch; a single longer pair is a batch of its own.

    Returns:
        The batches, each of shape (row,).
    """
    widths = np.maximum(source, target).tolist()
    batches, start, widest = [], 0, 0
    for end, width in enumerate(widths):
        grown = max(widest, width)
        if end > start and grown * (end + 1 - start) > budget:
            batches.append(rows[start:end])
            start, grown = end, width
        widest = grown
    batches.append(rows[start:])
    return batches


class TokenBatchSampler:
    """Endless, seeded, resumable order of batches.

    Each pass over the corpus repeats a pair of weight w floor(w) times, and once more with the chance of the rest,
    shuffles, sorts windows by length, cuts them by token budget, and shuffles the batches of a window.

    Args:
        source_lengths: Shape (row,), tokens with eos.
        target_lengths: Shape (row,), tokens with eos.
        weights: Shape (row,), expected copies a pass.
        settings: Budget and window.
        seed: Together with the pass number, decides everything.
    """

    def __init__(
        self,
        source_lengths: NDArray[np.int32],
        target_lengths: NDArray[np.int32],
        weights: NDArray[np.float32],
        settings: BatchSettings,
        seed: int,
    ) -> None:
        self.source_lengths, self.target_lengths, self.weights = source_lengths, target_lengths, weights
        self.settings, self.seed = settings, seed

    def epoch(self, number: int) -> Iterator[NDArray[np.int64]]:
        """Yield the batches of one pass, each of shape (row,)."""
        random = np.random.default_rng((self.seed, number))
        copies = np.floor(self.weights + random.random(len(self.weights), dtype=np.float32)).astype(np.int64)
        order = np.repeat(np.arange(len(copies)), copies)
        random.shuffle(order)
        for start in range(0, len(order), self.settings.window):
            rows = order[start : start + self.settings.window]
            rows = rows[np.lexsort((self.source_lengths[rows], self.target_lengths[rows]))]
            batches = cut_batches(rows, self.source_lengths[rows], self.target_lengths[rows], self.settings.tokens)
            for index in random.permutation(len(batches)):
                yield batches[index]

    def batches(self, start: Position) -> Iterator[tuple[NDArray[np.int64], Position]]:
        """Yield batches for ever from a position on, each with the position after it."""
        epoch, skip = start.epoch, start.batch
        while True:
            for number, rows in enumerate(self.epoch(epoch)):
                if number >= skip:
                    yield rows, Position(epoch, number + 1)
            epoch, skip = epoch + 1, 0
