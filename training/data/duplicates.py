"""Drop pairs that were seen before, at eight bytes of memory a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from training.data.parallel_text import Pair

_CHUNK = 4096


class SeenHashes:
    """A growing set of 64-bit hashes in sorted arrays.

    New hashes come as one more array; arrays of like size are merged, so there are never more than about log2(n).
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Add hashes, shape (row,); return shape (row,), True where one is new to the set and to earlier ``hashes``."""
        run, first = np.unique(hashes, return_index=True)
        fresh = np.zeros(len(hashes), dtype=np.bool_)
        fresh[first] = True
        for old in self._runs:
            places = np.minimum(np.searchsorted(old, hashes), len(old) - 1)
            fresh &= old[places] != hashes
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)
        return fresh


def pair_hash(pair: Pair) -> int:
    """64 bits of a hash of both texts; that any two of a billion pairs collide has a chance of about 1 in 40."""
    digest = hashlib.blake2b(f"{pair.source}\t{pair.target}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mark_duplicates(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, bool]]:
    """Stream each pair with whether the same two texts came before."""
    seen, stream = SeenHashes(), iter(pairs)
    while chunk := list(islice(stream, _CHUNK)):
        fresh = seen.add(np.array([pair_hash(pair) for pair in chunk], dtype=np.uint64))
        for pair, new in zip(chunk, fresh.tolist(), strict=True):
            yield pair, not new
