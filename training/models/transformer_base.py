"""Base of the Transformers that translate, with an encoder or without."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from training.models.contract import TranslationModel, Vocabulary
from training.models.positions import Rotation
from training.models.transformer_attention import Cached, KeysValues, LayerAttention, MultiHeadAttention, SelfAttention
from training.models.transformer_layers import DecoderLayer, EncoderLayer, StackSettings
from training.models.tying import Tie


@dataclass(frozen=True)
class TransformerState:
    """Decoder state: what every layer keeps.

    Attributes:
        position: Number of tokens already fed.
        own: Per layer, keys and values of the target so far, shape (row, position, kv_dim), or the state of a
            recurrence, shape (row, 1, dim).
        source: Per layer, keys and values of the source, shape (row, src, kv_dim).
        mask: Shape (row, 1, 1, src), bool, True at real source tokens.
    """

    position: int
    own: tuple[tuple[Tensor, ...], ...]
    source: tuple[KeysValues, ...]
    mask: Tensor

    def select(self, rows: Tensor) -> Self:
        """Take rows by index, shape (new_row,), int64."""
        return type(self)(
            self.position,
            tuple(tuple(part[rows] for part in layer) for layer in self.own),
            tuple((k[rows], v[rows]) for k, v in self.source),
            self.mask[rows],
        )


@dataclass(frozen=True, kw_only=True)
class TranslatorSettings(StackSettings):
    """Variants of the Transformers that translate.

    Attributes:
        tie: One matrix for source, target and output (``all``), for target and output (``target``), or none.
        output_bias: Add a bias to the logits (Marian's and BART's final logits bias).
    """

    tie: Tie = "all"
    output_bias: bool = False


class TransformerBase(TranslationModel[TransformerState]):
    """Transformer whose layers are given their attention, so that they serve training, decoding and export.

    Attributes:
        cached: How a layer attends in decoding.
    """

    vocab_projection: nn.Linear
    cached: ClassVar[type[Cached]]

    def __init__(self, settings: TranslatorSettings, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary

    @property
    @abstractmethod
    def target_layers(self) -> Sequence[EncoderLayer | DecoderLayer]:
        """The layers that read the target."""

    @property
    @abstractmethod
    def source_attention(self) -> Sequence[MultiHeadAttention]:
        """The attention of each layer to the source, whose keys and values of it are kept in decoding."""

    @abstractmethod
    def embed_target(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Rotation]:
        """Embed decoder inputs.

        Args:
            tokens: Shape (row, time), int64.
            positions: Broadcastable to (row, time), int64; those of ``next_position``, and on.

        Returns:
            Shape (row, time, dim), and the rotation of queries and keys at these positions.
        """

    @abstractmethod
    def next_position(self, state: TransformerState) -> Tensor:
        """Return the position of the next token, int64, broadcastable to (row, 1)."""

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm model (nothing for post-norm), shape (row, time, dim)."""

    @abstractmethod
    def teacher_forced(
        self, source: Tensor, lengths: Tensor, target: Tensor, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Run as ``hidden`` does, to shape (row, time, dim); append attention weights to ``weights``, if given."""

    def start(self, source: Sequence[KeysValues], mask: Tensor) -> TransformerState:
        """Make the state before the first step of every layer's source and mask, shapes as for the attributes."""
        own = tuple(layer.target_reader.start(source[0][0]) for layer in self.target_layers)
        return TransformerState(0, own, tuple(source), mask)

    def run_layers(self, x: Tensor, rotate: Rotation, attention: Iterable[SelfAttention]) -> Tensor:
        """Run the target's layers over embeddings, shape (row, time, dim), each with its own attention."""
        for layer, layer_attention in zip(self.target_layers, attention, strict=True):
            x = layer(x, rotate, layer_attention)
        return x

    def decode(self, tokens: Tensor, positions: Tensor, attention: Iterable[LayerAttention]) -> Tensor:
        """Run the decoder over target tokens; arguments as for ``embed_target``, to shape (row, time, dim)."""
        x, rotate = self.embed_target(tokens, positions)
        return self.finish(self.run_layers(x, rotate, attention))

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Project shape (..., dim) to logits (..., vocab)."""
        return self.vocab_projection(hidden)  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Run over known targets, to shape (row, time, dim); see the base class."""
        return self.teacher_forced(source, lengths, target)

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Return attention weights over the source, shape (layer, row, head, time, src); see the base class."""
        weights: list[Tensor] = []
        self.teacher_forced(source, lengths, target, weights)
        return torch.stack(weights)[..., -target.shape[1] :, : source.shape[1]]

    def decode_step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Feed one token to every row; shape (row,) to logits (row, vocab) and the longer state."""
        caches = [
            self.cached(self.settings.heads, own, source, state.mask)
            for own, source in zip(state.own, state.source, strict=True)
        ]
        hidden = self.decode(tokens[:, None], self.next_position(state), caches)
        own = tuple(cache.own for cache in caches)
        return self.project_vocab(hidden)[:, 0], TransformerState(state.position + 1, own, state.source, state.mask)
