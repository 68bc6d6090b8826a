"""The Transformer encoder-decoder of Vaswani et al., "Attention Is All You Need" (2017).

Depths, norms, activation, biases, positions and tying are settings, so that Marian and BART-family models have an exact
counterpart, and today's variants one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn

from training.models.contract import TranslationModel, Vocabulary
from training.models.encoder import SourceEncoder
from training.models.masks import length_mask
from training.models.transformer_layers import (
    DecoderLayer,
    MultiHeadAttention,
    StackSettings,
    build_norm,
    build_positions,
    check_kv_heads,
    initialise,
)
from training.models.tying import Tie, build_embeddings


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(StackSettings):
    """Sizes and variants of an encoder-decoder Transformer.

    Attributes:
        family: Tells the model families apart in a config file.
        encoder_layers: Encoder depth.
        decoder_layers: Decoder depth.
        decoder_kv_heads: Heads of keys and values in the decoder; divides `heads`, and 0 is as many. Fewer make the
            decoder's caches smaller.
        tie: One matrix for source, target and output (`all`), for target and output (`target`), or none.
        output_bias: Add a bias to the logits (Marian's and BART's final logits bias).
    """

    family: Literal["transformer"] = "transformer"
    encoder_layers: int = 4
    decoder_layers: int = 4
    decoder_kv_heads: int = 0
    tie: Tie = "all"
    output_bias: bool = False

    @property
    def decoder_kv_dim(self) -> int:
        """Width of the decoder's keys, and of its values."""
        return self.head_dim * (self.decoder_kv_heads or self.heads)

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ModelError: If one number of heads does not divide the next.
        """
        super().__post_init__()
        check_kv_heads("decoder_kv_heads", self.decoder_kv_heads, self.heads)


@dataclass(frozen=True)
class TransformerState:
    """Decoder state: keys and values of every layer.

    Attributes:
        position: Number of tokens already fed.
        own: Per layer, keys and values of the target so far, shape (row, position, kv_dim).
        source: Per layer, keys and values of the source, shape (row, src, kv_dim).
        mask: Shape (row, 1, 1, src), bool, True at real source tokens.
    """

    position: int
    own: tuple[tuple[Tensor, Tensor], ...]
    source: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor

    def select(self, rows: Tensor) -> Self:
        """Take rows by index, shape (new_row,), int64."""
        return type(self)(
            self.position,
            tuple((k[rows], v[rows]) for k, v in self.own),
            tuple((k[rows], v[rows]) for k, v in self.source),
            self.mask[rows],
        )


class Transformer(SourceEncoder, TranslationModel[TransformerState]):
    """Encoder-decoder Transformer."""

    def __init__(self, settings: TransformerSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights.

        Raises:
            ModelError: If all embeddings are to be tied but the two sides do not share a vocabulary.
        """
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        source_embedding, self.target_embedding, self.vocab_projection = build_embeddings(
            settings.tie, vocabulary, settings.dim, output_bias=settings.output_bias
        )
        self.build_encoder(settings, source_embedding, settings.encoder_layers)
        self.target_positions = build_positions(settings)
        self.target_embedding_norm = build_norm(settings) if settings.embedding_norm else nn.Identity()
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(settings, settings.decoder_kv_heads) for _ in range(settings.decoder_layers)
        )
        self.decoder_norm = build_norm(settings) if settings.norm == "pre" else nn.Identity()
        initialise(self.decoder_layers)

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder_layers))

    def embed_target(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed decoder inputs.

        Args:
            tokens: Shape (row, time), int64.
            positions: Broadcastable to (row, time), int64, from 0.

        Returns:
            Shape (row, time, dim).
        """
        x = self.target_positions.add(self.target_embedding(tokens) * self.embedding_scale, positions)
        return self.dropout(self.target_embedding_norm(x))  # type: ignore[no-any-return]

    def finish_decoder(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm decoder (nothing for post-norm), shape (row, time, dim)."""
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Shape (..., dim) to logits (..., vocab)."""
        return self.vocab_projection(hidden)  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced decoder outputs, shape (row, time, dim); see the base class."""
        return self._decode(source, lengths, target)

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Cross-attention weights, shape (layer, row, head, time, src); see the base class."""
        weights: list[Tensor] = []
        self._decode(source, lengths, target, watch=weights.append)
        return torch.stack(weights)

    def _decode(
        self, source: Tensor, lengths: Tensor, target: Tensor, watch: Callable[[Tensor], None] | None = None
    ) -> Tensor:
        states = self.encode_states(source, lengths)
        mask = length_mask(lengths, source.shape[1])[:, None, None, :]
        dropout = self.attention_dropout if self.training else 0.0
        positions = torch.arange(target.shape[1], device=target.device)[None, :]
        x, rotate = self.embed_target(target, positions), self.target_positions.rotation(positions)

        for layer in self._decoder_layers():
            cross = layer.cross_attention
            keys, values = cross.project_keys_values(states)
            attend_self = partial(layer.self_attention.attend, is_causal=True, dropout_p=dropout)

            def attend_cross(
                q: Tensor, k: Tensor = keys, v: Tensor = values, cross: MultiHeadAttention = cross
            ) -> Tensor:
                if watch is not None:
                    watch(cross.weights(q, k, mask))
                return cross.attend(q, k, v, attn_mask=mask, dropout_p=dropout)

            x = layer(x, rotate, attend_self, attend_cross)
        return self.finish_decoder(x)

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerState:
        """Encode the source, shape (row, src) with lengths (row,), and project every layer's keys and values."""
        states = self.encode_states(source, lengths)
        attention = [layer.cross_attention for layer in self._decoder_layers()]
        empty = states.new_zeros(source.shape[0], 0, self.settings.decoder_kv_dim)
        return TransformerState(
            position=0,
            own=tuple((empty, empty) for _ in attention),
            source=tuple(a.project_keys_values(states) for a in attention),
            mask=length_mask(lengths, source.shape[1])[:, None, None, :],
        )

    def decode_step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Feed one token a row; shape (row,) to logits (row, vocab) and the longer state."""
        position = torch.full((1, 1), state.position, dtype=torch.int64, device=tokens.device)
        x, rotate = self.embed_target(tokens[:, None], position), self.target_positions.rotation(position)
        grown: list[tuple[Tensor, Tensor]] = []
        for layer, own, source in zip(self._decoder_layers(), state.own, state.source, strict=True):

            def attend_self(
                q: Tensor,
                k: Tensor,
                v: Tensor,
                past: tuple[Tensor, Tensor] = own,
                attention: MultiHeadAttention = layer.self_attention,
            ) -> Tensor:
                grown.append((torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)))
                return attention.attend(q, *grown[-1])

            attend_cross = partial(layer.cross_attention.attend, k=source[0], v=source[1], attn_mask=state.mask)
            x = layer(x, rotate, attend_self, attend_cross)
        logits = self.project_vocab(self.finish_decoder(x))[:, 0]
        return logits, TransformerState(state.position + 1, tuple(grown), state.source, state.mask)
