"""Training text: one corpus or several, in files or by a Hugging Face name, and how they are mixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag

from training.data.hub_dataset import HubDataset
from training.data.parallel_text import CorpusFiles, Pair
from training.errors import DataError


def _kind(value: Any) -> str:
    named = "dataset" in value if isinstance(value, Mapping) else isinstance(value, HubDataset)
    return "dataset" if named else "files"


Corpus = Annotated[Annotated[CorpusFiles, Tag("files")] | Annotated[HubDataset, Tag("dataset")], Discriminator(_kind)]
Corpora = Annotated[
    tuple[Corpus, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))
]


def read_corpora(corpora: Iterable[CorpusFiles | HubDataset]) -> Iterator[Pair]:
    """Stream corpora one after the other.

    Raises:
        DataError: If one of them cannot be read.
    """
    for corpus in corpora:
        yield from corpus.pairs()


@dataclass(frozen=True)
class Mixture:
    """Copies of the pairs of each label per pass.

    Attributes:
        weights: Expected copies of a pair per pass by label; pairs of other labels are left out. None keeps all.
        temperature: Instead of weights: a label of n pairs makes up a share of a pass proportional to n^(1/T)
            (Arivazhagan et al. 2019); 1 leaves sizes as they are, larger values even them out. A pass stays as long.
    """

    weights: dict[str, float] | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            DataError: If a weight is negative, the temperature is below 1, or both are given.
        """
        if self.weights is not None and min(self.weights.values(), default=0.0) < 0:
            raise DataError(f"a weight of data.weights is below 0 ({min(self.weights.values())}); use 0 to leave out.")
        if self.temperature < 1.0:
            raise DataError(f"data.temperature is {self.temperature}; it must be 1 or more.")
        if self.weights is not None and self.temperature != 1.0:
            raise DataError("data.weights and data.temperature exclude each other; give one of them.")

    @property
    def labels(self) -> frozenset[str] | None:
        """Labels that are seen at all; None for every one."""
        return None if self.weights is None else frozenset(k for k, w in self.weights.items() if w > 0)

    def seen(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Stream those of some other pairs that belong to what is trained on: of its labels, or without a label."""
        labels = self.labels
        return (pair for pair in pairs if labels is None or not pair.label or pair.label in labels)

    def copies(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Return the expected copies of a pair per pass, for each label of these numbers of pairs.

        Raises:
            DataError: If a weight names a label that no pair has.
        """
        if self.weights is not None:
            if unknown := sorted(self.labels - sizes.keys() if self.labels else []):
                raise DataError(
                    f"data.weights names {', '.join(unknown)}, but no pair is left of that label; "
                    f"there are {', '.join(repr(s) for s in sorted(sizes)) or 'none'}."
                )
            return {label: self.weights[label] for label in sizes}
        shares = {label: size ** (1.0 / self.temperature) for label, size in sizes.items()}
        scale = sum(sizes.values()) / (sum(shares.values()) or 1.0)
        return {label: shares[label] * scale / size for label, size in sizes.items()}
