"""The graphs of one precision, loaded on one device."""

from __future__ import annotations

from dataclasses import dataclass

from serving.bundle.manifest import Axis, Precision, TensorSpec
from serving.bundle.shortlist import Shortlist
from serving.runtime.cuda_graphs import GraphedSession


@dataclass(frozen=True)
class LoadedModel:
    """What all grids of a model share.

    Attributes:
        precision: What the graphs read and write.
        shortlist: Lexicon of target tokens, for graphs that want one.
    """

    precision: Precision
    encoder: GraphedSession
    decoder: GraphedSession
    device: str
    pad_id: int
    shortlist: Shortlist | None = None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Memory and state, which a grid holds."""
        return (*self.precision.memory, *self.precision.state)

    @property
    def vocabulary_size(self) -> int:
        """The number of target tokens, of graphs with ``shortlist_index``."""
        return next(int(spec.axes[1]) for spec in self.precision.memory if spec.name == "shortlist_index")

    @property
    def has_cache(self) -> bool:
        """Whether the state has entries that must be given out."""
        return any(Axis.ENTRY in spec.axes for spec in self.tensors)
