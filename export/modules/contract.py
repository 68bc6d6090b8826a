"""Contract of a model family's modules: an encoder, and one decoder step over slots x beams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from serving.bundle.manifest import Axis, StateSpec, TensorSpec


@dataclass(frozen=True)
class StepInputs:
    """Input of a decoder step from the search and the cache; the search's shapes as in ``serving.step.StepPlan``.

    ``places`` (slot, beam, 2) and ``mask`` (slot, 1, beam, entry) are of ``serving.runtime.cache_table``. ``ranks``
    has shape (candidate,); only its length matters: it is the number of candidates wanted.
    """

    tokens: Tensor
    parents: Tensor
    positions: Tensor
    places: Tensor
    mask: Tensor
    scores: Tensor
    targets: Tensor
    edit_tokens: Tensor
    edit_factors: Tensor
    edit_biases: Tensor
    ranks: Tensor


@dataclass(frozen=True)
class Attended:
    """What each hypothesis attends to in its source.

    Attributes:
        most: The position that it attends to most. Shape (slot, beam), int64.
        weights: Of all positions; they sum to 1, and are 0 beyond the source. Shape (slot, beam, src), float32. None
            for a model without attention.
    """

    most: Tensor
    weights: Tensor | None = None


class FamilyEncoder(nn.Module, ABC):
    """Source ids to all that a decoder needs to know of a source."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The decoder's memory, then its initial state if it has one."""

    @abstractmethod
    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Encode sources of shape (source, src) with lengths (source,), both int64, to the tensors of ``outputs``."""


class FamilyDecoder(nn.Module, ABC):
    """One decoder step of all slots and beams."""

    @property
    @abstractmethod
    def memory(self) -> tuple[TensorSpec, ...]:
        """Tensors that a step reads of each source."""

    @property
    @abstractmethod
    def state(self) -> tuple[StateSpec, ...]:
        """Tensors that a step reads and writes."""

    @property
    @abstractmethod
    def has_attention(self) -> bool:
        """Whether a step tells weights of attention."""

    @abstractmethod
    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Attended, list[Tensor]]:
        """Run the step.

        Args:
            step: What the search feeds.
            lengths: Source lengths. Shape (slot,), int64.
            memory: Tensors of ``memory``, shape (slot, ...) each.
            past: Tensors of ``state``, shape (slot, ...) each.

        Returns:
            Logits (slot, beam, vocab), what is attended to, and the state after the step.
        """


def encoder_outputs(memory: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Declare as an encoder's outputs, one per source, what a decoder declares as memory, one per slot."""
    return tuple(spec.model_copy(update={"axes": (Axis.SOURCE, *spec.axes[1:])}) for spec in memory)
