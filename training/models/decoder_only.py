"""A decoder-only translation model: one stack of layers reads the source, its end token, and then the target.

The source is a prefix. Its keys and values are computed once, as an encoder's are, and the target's layers attend to
them and to the target so far in one softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from training.models.contract import Vocabulary
from training.models.dropout import TimeSharedDropout
from training.models.masks import length_mask
from training.models.positions import Rotation
from training.models.transformer_attention import (
    CachedPrefix,
    KeysValues,
    MaskedAttention,
    MultiHeadAttention,
    Remembered,
    SelfAttention,
)
from training.models.transformer_base import TransformerBase, TransformerState, TranslatorSettings
from training.models.transformer_layers import (
    EncoderLayer,
    build_norm,
    build_positions,
    check_kv_heads,
    initialise,
)
from training.models.tying import build_embeddings


@dataclass(frozen=True, kw_only=True)
class DecoderOnlySettings(TranslatorSettings):
    """Sizes and variants of a decoder-only model; ``max_positions`` holds source and target together.

    Attributes:
        family: Tells the model families apart in a config file.
        layers: Depth.
        kv_heads: Heads of keys and values; divides ``heads``, and 0 is as many.
        prefix: Whether a source token attends to the whole source (``bidirectional``, a prefix language model: Raffel
            et al. 2020, section 3.2.1) or to what precedes it (``causal``, as GPT: Radford et al. 2018).
    """

    family: Literal["decoder_only"] = "decoder_only"
    layers: int = 6
    kv_heads: int = 0
    prefix: Literal["bidirectional", "causal"] = "bidirectional"

    def __post_init__(self) -> None:
        """Check that the sizes fit together, and the numbers of heads."""
        super().__post_init__()
        check_kv_heads("kv_heads", self.kv_heads, self.heads)

    def positions_for(self, source: int, target: int) -> int:
        """Return the positions of a source and a target, one after the other, each with a special token."""
        return source + target + 2


class DecoderOnly(TransformerBase):
    """Prefix language model of source and target."""

    settings: DecoderOnlySettings
    cached = CachedPrefix

    def __init__(self, settings: DecoderOnlySettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights; all embeddings can only be tied if the sides share a vocabulary."""
        super().__init__(settings, vocabulary)
        self.source_embedding, self.target_embedding, self.vocab_projection = build_embeddings(
            settings.tie, vocabulary, settings.dim, output_bias=settings.output_bias
        )
        self.positions = build_positions(settings)
        self.layers = nn.ModuleList(EncoderLayer(settings, settings.kv_heads) for _ in range(settings.layers))
        self.norm = build_norm(settings) if settings.norm == "pre" else nn.Identity()
        self.embedding_norm = build_norm(settings) if settings.embedding_norm else nn.Identity()
        self.dropout = TimeSharedDropout(settings.dropout)
        self.embedding_scale = settings.dim**0.5 if settings.scale_embedding else 1.0
        initialise(self.layers)

    @property
    def target_layers(self) -> Sequence[EncoderLayer]:
        """The layers, all of which read source and target."""
        return cast("Sequence[EncoderLayer]", self.layers)

    @property
    def source_attention(self) -> Sequence[MultiHeadAttention]:
        """The one attention of each layer."""
        return [layer.self_attention for layer in self.target_layers]

    def embed(self, embedded: Tensor, positions: Tensor) -> tuple[Tensor, Rotation]:
        """Finish token embeddings, shape (row, time, dim); positions and result as for ``embed_target``."""
        x = self.positions.add(embedded * self.embedding_scale, positions)
        return self.dropout(self.embedding_norm(x)), self.positions.rotation(positions)

    def embed_target(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Rotation]:
        """Embed decoder inputs, shape (row, time), at positions counted from the source's first; see the base class."""
        return self.embed(self.target_embedding(tokens), positions)

    def next_position(self, state: TransformerState) -> Tensor:
        """Return the number of source and target tokens before the next, shape (row, 1)."""
        return state.mask.sum(dim=-1)[:, 0] + state.position

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm model (nothing for post-norm), shape (row, time, dim)."""
        return self.norm(x)  # type: ignore[no-any-return]

    def read(self, source: Tensor, attention: SelfAttention) -> list[KeysValues]:
        """Run the layers over sources of shape (row, src), int64, and return the keys and values of each."""
        positions = torch.arange(source.shape[1], device=source.device)[None, :]
        layers = [Remembered(attention) for _ in self.layers]
        self.run_layers(*self.embed(self.source_embedding(source), positions), layers)
        return [layer.own for layer in layers]

    def prefix_mask(self, lengths: Tensor, size: int) -> Tensor:
        """Mark what source tokens may attend to: shape (row, 1, src, src), bool, of sources with lengths (row,)."""
        mask = length_mask(lengths, size)[:, None, None, :].expand(-1, 1, size, size)
        return mask.tril() if self.settings.prefix == "causal" else mask

    def teacher_forced(
        self, source: Tensor, lengths: Tensor, target: Tensor, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Run the layers over source and target at once, to shape (row, time, dim); see the base class."""
        src, tgt, device = source.shape[1], target.shape[1], source.device
        steps = torch.arange(tgt, device=device)
        positions = torch.cat([torch.arange(src, device=device).expand(len(source), -1), lengths[:, None] + steps], 1)
        tokens = torch.cat([self.source_embedding(source), self.target_embedding(target)], dim=1)
        real = length_mask(lengths, src)[:, None, None, :]
        above = torch.cat([self.prefix_mask(lengths, src), real.new_zeros(len(source), 1, src, tgt)], dim=3)
        causal = (steps[:, None] >= steps).expand(len(source), 1, tgt, tgt)
        mask = torch.cat([above, torch.cat([real.expand(-1, 1, tgt, src), causal], dim=3)], dim=2)
        dropout = self.settings.attention_dropout if self.training else 0.0
        attention = MaskedAttention(self.settings.heads, mask, dropout, weights)
        x = self.run_layers(*self.embed(tokens, positions), [attention] * len(self.layers))
        return self.finish(x[:, src:])

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerState:
        """Read the source, shape (row, src) with lengths (row,), and keep every layer's keys and values."""
        size = source.shape[1]
        memory = self.read(source, MaskedAttention(self.settings.heads, self.prefix_mask(lengths, size)))
        return self.start(memory, length_mask(lengths, size)[:, None, None, :])
