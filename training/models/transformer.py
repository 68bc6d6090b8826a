"""The Transformer encoder-decoder of Vaswani et al., "Attention Is All You Need" (2017).

Depths, norms, activation, biases, positions and tying are settings, so that Marian and BART-family models have an exact
counterpart, and today's variants one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from training.models.contract import Vocabulary
from training.models.encoder import SourceEncoder
from training.models.masks import length_mask
from training.models.positions import Rotation
from training.models.transformer_attention import Cached, MultiHeadAttention, TeacherForced
from training.models.transformer_base import TransformerBase, TransformerState, TranslatorSettings
from training.models.transformer_layers import (
    DecoderLayer,
    build_norm,
    build_positions,
    check_kv_heads,
    initialise,
)
from training.models.tying import build_embeddings


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(TranslatorSettings):
    """Sizes and variants of an encoder-decoder Transformer.

    Attributes:
        family: Tells the model families apart in a config file.
        encoder_layers: Encoder depth.
        decoder_layers: Decoder depth.
        decoder_autoregression: What a decoder layer reads the target so far with: self-attention, or the SSRU of Kim et
            al. (2019), whose state is one vector.
        decoder_kv_heads: Heads of keys and values in the decoder; divides ``heads``, and 0 is as many. Fewer make the
            decoder's caches smaller.
    """

    family: Literal["transformer"] = "transformer"
    encoder_layers: int = 4
    decoder_layers: int = 4
    decoder_autoregression: Literal["attention", "ssru"] = "attention"
    decoder_kv_heads: int = 0

    def __post_init__(self) -> None:
        """Check that the sizes fit together, and the numbers of heads."""
        super().__post_init__()
        check_kv_heads("decoder_kv_heads", self.decoder_kv_heads, self.heads)


class Transformer(SourceEncoder, TransformerBase):
    """Encoder-decoder Transformer."""

    settings: TransformerSettings
    cached = Cached

    def __init__(self, settings: TransformerSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights; all embeddings can only be tied if the sides share a vocabulary."""
        super().__init__(settings, vocabulary)
        source_embedding, self.target_embedding, self.vocab_projection = build_embeddings(
            settings.tie, vocabulary, settings.dim, output_bias=settings.output_bias
        )
        self.build_encoder(settings, source_embedding, settings.encoder_layers)
        self.target_positions = build_positions(settings)
        self.target_embedding_norm = build_norm(settings) if settings.embedding_norm else nn.Identity()
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(settings, settings.decoder_kv_heads, recurrent=settings.decoder_autoregression == "ssru")
            for _ in range(settings.decoder_layers)
        )
        self.decoder_norm = build_norm(settings) if settings.norm == "pre" else nn.Identity()
        initialise(self.decoder_layers)

    @property
    def target_layers(self) -> Sequence[DecoderLayer]:
        """The decoder's layers."""
        return cast("Sequence[DecoderLayer]", self.decoder_layers)

    @property
    def source_attention(self) -> Sequence[MultiHeadAttention]:
        """The cross-attention of each layer."""
        return [layer.cross_attention for layer in self.target_layers]

    def embed_target(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Rotation]:
        """Embed decoder inputs, shape (row, time), at positions counted from 0; see the base class."""
        x = self.target_positions.add(self.target_embedding(tokens) * self.embedding_scale, positions)
        return self.dropout(self.target_embedding_norm(x)), self.target_positions.rotation(positions)

    def next_position(self, state: TransformerState) -> Tensor:
        """Return the number of tokens fed, shape (1, 1)."""
        return torch.full((1, 1), state.position, dtype=torch.int64, device=state.mask.device)

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm decoder (nothing for post-norm), shape (row, time, dim)."""
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def teacher_forced(
        self, source: Tensor, lengths: Tensor, target: Tensor, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Encode the source, shape (row, src), and run the decoder, to shape (row, time, dim); see the base class."""
        states = self.encode_states(source, lengths)
        mask = length_mask(lengths, source.shape[1])[:, None, None, :]
        dropout = self.attention_dropout if self.training else 0.0
        positions = torch.arange(target.shape[1], device=target.device)[None, :]
        sources = (attention.project_keys_values(states) for attention in self.source_attention)
        layers = (TeacherForced(self.settings.heads, mask, dropout, weights, source=source) for source in sources)
        return self.decode(target, positions, layers)

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerState:
        """Encode the source, shape (row, src) with lengths (row,), and project every layer's keys and values."""
        states = self.encode_states(source, lengths)
        mask = length_mask(lengths, source.shape[1])[:, None, None, :]
        return self.start([a.project_keys_values(states) for a in self.source_attention], mask)
