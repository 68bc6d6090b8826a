"""Vocabulary shortlist: the target tokens that a source sentence may use, from a lexicon in the bundle.

The candidates of a sentence depend on its own source and prefix only, never on the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OUTPUT_BIASES = "output_biases"  # of the graphs' tensors, the one in which -inf bars a column of the output layer


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Lexicon of likely translations.

    Attributes:
        always: Target tokens that every sentence may use, including the end token. Shape (token,), int32.
        best: Likely translations of each source token; shorter lists are padded with a token of ``always``.
            Shape (source token, rank), int32.
    """

    always: NDArray[np.int32]
    best: NDArray[np.int32]

    def candidates(self, source: NDArray[np.int64], prefix: Sequence[int] = ()) -> NDArray[np.int64]:
        """Return the target tokens that a sentence may use.

        Args:
            source: Source tokens. Shape (src,), int64.
            prefix: Target tokens that the translation must begin with.

        Returns:
            Distinct token ids in ascending order. Shape (token,), int64.
        """
        given = np.array(prefix, dtype=np.int64)
        listed = np.zeros(max(self._tokens, 1 + int(given.max(initial=0))), dtype=np.bool_)
        for tokens in (self.always, self.best[source], given):
            listed[tokens] = True
        return np.flatnonzero(listed)  # several times as fast as sorting the tokens

    @cached_property
    def _tokens(self) -> int:
        """One more than the largest token of the lexicon."""
        return 1 + max(int(self.always.max(initial=0)), int(self.best.max(initial=0)))

    @classmethod
    def whole(cls, source_size: int, target_size: int) -> Shortlist:
        """Return a shortlist that allows every token."""
        return cls(np.arange(target_size, dtype=np.int32), np.empty((source_size, 0), dtype=np.int32))

    def save(self, path: Path) -> None:
        """Write the lexicon to a NumPy archive."""
        with path.open("wb") as file:
            np.savez_compressed(file, always=self.always, best=self.best)

    @classmethod
    def load(cls, path: Path) -> Shortlist:
        """Load a lexicon that :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            return cls(held["always"], held["best"])
