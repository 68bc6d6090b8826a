"""Contract of the model families with training, decoding and scoring.

A model is fed explicit state and returns new state; nothing about a sentence lives in the module itself. So a beam
search can fork, reorder and drop hypotheses by indexing the state's rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Vocabulary:
    """Sizes and special ids of the token inventories.

    Attributes:
        source_size: Number of source token ids.
        target_size: Number of target token ids.
        pad: Fills the end of short rows, both sides.
        eos: Ends every finished target.
        decoder_start: First decoder input; ``bos`` for models trained here, ``pad`` for Marian ones.
        unk: Unknown token, or None where the inventory has none.
        bos: Beginning of sentence, or None where the inventory has none.
        shared: Whether ids mean the same piece on both sides.
        source_bos: Whether every source row begins with ``bos``.
        source_eos: Whether every source row ends in ``eos``.
        banned: Target ids that decoding never emits; None for pad, unk, bos and the decoder's start.
    """

    source_size: int
    target_size: int
    pad: int = 0
    eos: int = 3
    decoder_start: int = 2
    unk: int | None = 1
    bos: int | None = 2
    shared: bool = True
    source_bos: bool = False
    source_eos: bool = True
    banned: tuple[int, ...] | None = None

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Target ids that decoding never emits: the banned ones, or pad, unk, bos and the start; never eos."""
        if self.banned is not None:
            return self.banned
        ids = {self.pad, self.unk, self.bos, self.decoder_start} - {None, self.eos}
        return tuple(sorted(i for i in ids if i is not None))


class DecoderState(Protocol):
    """Everything a model must remember between two decoding steps, one entry per row."""

    def select(self, rows: Tensor) -> Self:
        """Take rows by index, repeats allowed; ``rows`` has shape (new_row,), int64."""
        ...


StateT = TypeVar("StateT", bound=DecoderState)


class LanguageModel(nn.Module, ABC):
    """Base of every family: scores of known targets, for training."""

    vocabulary: Vocabulary

    @abstractmethod
    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Run the model over known targets (teacher forcing).

        Args:
            source: Shape (row, src), int64, each row ends in eos, then pad.
            lengths: Shape (row,), int64, source lengths in tokens, eos included.
            target: Shape (row, time), int64, decoder inputs: decoder_start, then the pieces.

        Returns:
            Shape (row, time, dim): what ``project_vocab`` turns into logits.
        """

    @abstractmethod
    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Map decoder outputs to unnormalised scores: shape (..., dim) to (..., vocab)."""

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Return teacher-forced logits of shape (row, time, vocab); arguments as for ``hidden``."""
        return self.project_vocab(self.hidden(source, lengths, target))


class TranslationModel(LanguageModel, Generic[StateT]):
    """Base of the families that translate: ``encode`` and ``decode_step`` for decoding, besides."""

    @abstractmethod
    def encode(self, source: Tensor, lengths: Tensor) -> StateT:
        """Read the source once and return the state before the first decoding step.

        Args:
            source: Shape (row, src), int64.
            lengths: Shape (row,), int64.
        """

    @abstractmethod
    def decode_step(self, tokens: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Feed one token to every row.

        Args:
            tokens: Shape (row,), int64, the last token of each hypothesis.
            state: What ``encode`` or the last step returned.

        Returns:
            Logits of shape (row, vocab), and the next state; the given one is left as it was.
        """

    @abstractmethod
    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Compute how much each step attends to each source token, with known targets; arguments as for ``hidden``.

        Returns:
            Shape (layer, row, head, time, src), in eval mode; no layers for a model without attention.
        """
