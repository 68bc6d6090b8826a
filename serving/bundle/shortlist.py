"""The vocabulary shortlist: which target tokens a source sentence can need, out of a lexicon in the bundle.

A sentence's candidates depend on its own source and prefix alone, never on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Shortlist:
    """A lexicon.

    Attributes:
        always: Target tokens that every sentence may use, the end token among them. Shape (token,), int32.
        best: The likely translations of each source token; shorter lists repeat a token of ``always``.
            Shape (source token, rank), int32.
    """

    always: NDArray[np.int32]
    best: NDArray[np.int32]

    def candidates(self, source: NDArray[np.int64], prefix: Sequence[int] = ()) -> NDArray[np.int64]:
        """The target tokens a sentence may use.

        Args:
            source: Its tokens. Shape (src,), int64.
            prefix: Target tokens it must begin with.

        Returns:
            Token ids in ascending order, each once. Shape (token,), int64.
        """
        likely = self.best[source].ravel()
        return np.unique(np.concatenate([self.always, likely, np.array(prefix, dtype=np.int64)]))

    @classmethod
    def whole(cls, source_size: int, target_size: int) -> Shortlist:
        """One that denies no sentence any token."""
        return cls(np.arange(target_size, dtype=np.int32), np.empty((source_size, 0), dtype=np.int32))

    def save(self, path: Path) -> None:
        """Writes the lexicon as a NumPy archive."""
        with path.open("wb") as file:
            np.savez_compressed(file, always=self.always, best=self.best)

    @classmethod
    def load(cls, path: Path) -> Shortlist:
        """Reads what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            return cls(held["always"], held["best"])
