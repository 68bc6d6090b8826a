"""Choice of the pairs of each batch: a pure function of seed and position, so that a run resumes where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.token_store import TokenStore
from training.errors import DataError

_BLOCK = 1 << 20


class Position(NamedTuple):
    """A place in the endless order of batches: the next batch is number ``batch`` of pass ``epoch``."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """Settings of the grouping of pairs.

    Attributes:
        tokens: Most tokens of a batch a side, padding included.
        window: Pairs that are sorted by length together; larger means less padding, and batches that are more alike.
    """

    tokens: int = 4096
    window: int = 20_000

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            DataError: If one is below 1.
        """
        if self.tokens < 1 or self.window < 1:
            raise DataError(f"batch.tokens is {self.tokens} and batch.window {self.window}; both must be 1 or more.")


def _cuts(widths: NDArray[np.int64], budget: int) -> list[int]:
    """Find where batches end if each takes as many rows as rows x widest allows."""
    cuts, start = list[int](), 0
    while start < len(widths):
        most = max(1, budget // int(widths[start]))
        widest = np.maximum.accumulate(widths[start : start + most])
        start += max(1, int(np.searchsorted(widest * np.arange(1, len(widest) + 1), budget, side="right")))
        cuts.append(start)
    return cuts


def cut_batches(rows: NDArray[Any], widths: NDArray[Any], budget: int) -> list[NDArray[Any]]:
    """Cut length-sorted rows into the fewest batches within a budget, as equal in padded size as can be.

    Equal sizes keep the processes of a step from waiting for each other.

    Args:
        rows: Shape (row,), indices of pairs, in order.
        widths: Shape (row,), the longer side of each of them, special tokens included.
        budget: Most rows x longest row of a batch; a single longer pair is a batch of its own.

    Returns:
        The batches, each of shape (row,).
    """
    cuts = _cuts(widths, budget)
    # The smallest budget that needs no more batches, by bisection: it shares out what the last batch lacks.
    low, high = 1, budget
    while low < high:
        middle = (low + high) // 2
        tighter = _cuts(widths, middle)
        if len(tighter) > len(cuts):
            low = middle + 1
        else:
            high, cuts = middle, tighter
    return np.split(rows, cuts[:-1])


class TokenBatchSampler:
    """Endless, seeded, resumable order of batches.

    Each pass over the corpus repeats a pair of weight w floor(w) times, and once more with the chance of the rest,
    shuffles, sorts windows by length, cuts them by token budget, and shuffles the batches of a window. Of a whole pass
    only the order of its pairs is held in memory, four bytes each.

    Args:
        store: The corpus.
        copies: By label, expected copies a pass.
        settings: Budget and window.
        seed: Together with the pass number, decides everything.

    Raises:
        DataError: If a pass would hold no pair.
    """

    def __init__(self, store: TokenStore, copies: Mapping[str, float], settings: BatchSettings, seed: int) -> None:
        self.store, self.settings, self.seed = store, settings, seed
        self._copies = np.array([copies[name] for name in store.label_names], dtype=np.float32)
        if not self._copies[np.unique(store.labels)].any():
            raise DataError("every label of the corpus has weight 0; raise one of data.weights.")

    def order(self, epoch: int) -> NDArray[Any]:
        """Return the pairs of one pass in random order, shape (row,), uint32 (uint64 above four billion pairs)."""
        random = np.random.default_rng((self.seed, epoch))
        total = len(self.store)
        dtype = np.uint32 if total <= 1 << 32 else np.uint64
        drawn = []
        for start in range(0, total, _BLOCK):
            weights = self._copies[self.store.labels[start : start + _BLOCK]]
            counts = np.floor(weights + random.random(len(weights), dtype=np.float32)).astype(np.int64)
            drawn.append(np.repeat(np.arange(start, start + len(weights), dtype=dtype), counts))
        order = np.concatenate(drawn)
        random.shuffle(order)
        return order

    def epoch(self, number: int) -> Iterator[NDArray[Any]]:
        """Yield the batches of one pass, each of shape (row,)."""
        order = self.order(number)
        random = np.random.default_rng((self.seed, number, 1))
        for start in range(0, len(order), self.settings.window):
            rows = order[start : start + self.settings.window]
            source, target = (self.store.lengths(side, rows) + 1 for side in ("source", "target"))
            by_length = np.lexsort((source, target))
            widths = np.maximum(source, target)[by_length]
            batches = cut_batches(rows[by_length], widths, self.settings.tokens)
            for index in random.permutation(len(batches)):
                yield batches[index]

    def batches(self, start: Position) -> Iterator[tuple[NDArray[Any], Position]]:
        """Yield batches for ever from a position on, each with the position after it."""
        epoch, skip = start.epoch, start.batch
        while True:
            for number, rows in enumerate(self.epoch(epoch)):
                if number >= skip:
                    yield rows, Position(epoch, number + 1)
            epoch, skip = epoch + 1, 0
