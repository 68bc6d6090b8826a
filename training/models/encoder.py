"""Encoder of source sentences: that half of a Transformer, and all but the head of a masked language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.dropout import TimeSharedDropout
from training.models.masks import length_mask
from training.models.transformer_attention import MaskedAttention, SelfAttention
from training.models.transformer_layers import EncoderLayer, StackSettings, build_norm, build_positions, initialise


class SourceEncoder(nn.Module):
    """Embedding, positions and layers of self-attention; models inherit it, so that its weights have the same names."""

    def build_encoder(self, settings: StackSettings, embedding: nn.Embedding, depth: int) -> None:
        """Build it with fresh weights, over the embedding given."""
        self.source_embedding = embedding
        self.source_positions = build_positions(settings)
        self.source_embedding_norm = build_norm(settings) if settings.embedding_norm else nn.Identity()
        self.encoder_layers = nn.ModuleList(EncoderLayer(settings) for _ in range(depth))
        self.encoder_norm = build_norm(settings) if settings.norm == "pre" else nn.Identity()
        self.dropout = TimeSharedDropout(settings.dropout)
        self.embedding_scale = settings.dim**0.5 if settings.scale_embedding else 1.0
        self.heads, self.attention_dropout = settings.heads, settings.attention_dropout
        initialise(self.encoder_layers)

    def encode_states(self, source: Tensor, lengths: Tensor, attention: SelfAttention | None = None) -> Tensor:
        """Run the encoder.

        Args:
            source: Shape (row, src), int64.
            lengths: Shape (row,), int64; tokens from there on are padding and are not attended to.
            attention: Self-attention over the real tokens, for callers that bring their own.

        Returns:
            Shape (row, src, dim).
        """
        positions = torch.arange(source.shape[1], device=source.device)[None, :]
        x = self.source_positions.add(self.source_embedding(source) * self.embedding_scale, positions)
        x = self.dropout(self.source_embedding_norm(x))
        rotate = self.source_positions.rotation(positions)
        if attention is None:
            mask = length_mask(lengths, source.shape[1])[:, None, None, :]
            attention = MaskedAttention(self.heads, mask, self.attention_dropout if self.training else 0.0)
        for layer in self.encoder_layers:
            x = layer(x, rotate, attention)
        return self.encoder_norm(x)  # type: ignore[no-any-return]
