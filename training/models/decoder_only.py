"""A decoder-only translation model: one stack of layers reads the source, its end token, and then the target.

The source is a prefix. Its keys and values are computed once, as an encoder's are, and the target's layers attend to
them and to the target so far in one softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from training.models.contract import TranslationModel, Vocabulary
from training.models.dropout import TimeSharedDropout
from training.models.masks import length_mask
from training.models.transformer import TransformerState
from training.models.transformer_layers import (
    AttendSelf,
    EncoderLayer,
    MultiHeadAttention,
    StackSettings,
    build_norm,
    build_positions,
    check_kv_heads,
    initialise,
)
from training.models.tying import Tie, build_embeddings


@dataclass(frozen=True, kw_only=True)
class DecoderOnlySettings(StackSettings):
    """Sizes and variants of a decoder-only model; `max_positions` holds source and target together.

    Attributes:
        family: Tells the model families apart in a config file.
        layers: Depth.
        kv_heads: Heads of keys and values; divides `heads`, and 0 is as many.
        prefix: Whether a source token attends to the whole source (`bidirectional`, a prefix language model: Raffel et
            al. 2020, section 3.2.1) or to what precedes it (`causal`, as GPT: Radford et al. 2018).
        tie: One matrix for source, target and output (`all`), for target and output (`target`), or none.
        output_bias: Add a bias to the logits.
    """

    family: Literal["decoder_only"] = "decoder_only"
    layers: int = 6
    kv_heads: int = 0
    prefix: Literal["bidirectional", "causal"] = "bidirectional"
    tie: Tie = "all"
    output_bias: bool = False

    @property
    def kv_dim(self) -> int:
        """Width of the keys, and of the values."""
        return self.head_dim * (self.kv_heads or self.heads)

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ModelError: If one number of heads does not divide the next.
        """
        super().__post_init__()
        check_kv_heads("kv_heads", self.kv_heads, self.heads)

    def positions_for(self, source: int, target: int) -> int:
        """Positions of a source and a target, one after the other, each with a special token."""
        return source + target + 2


class DecoderOnly(TranslationModel[TransformerState]):
    """Prefix language model of source and target."""

    def __init__(self, settings: DecoderOnlySettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights.

        Raises:
            ModelError: If all embeddings are to be tied but the two sides do not share a vocabulary.
        """
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
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

    def _layers(self) -> list[EncoderLayer]:
        return cast("list[EncoderLayer]", list(self.layers))

    def embed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Finish token embeddings.

        Args:
            embedded: Shape (row, time, dim).
            positions: Broadcastable to (row, time), int64; the target's go on where the source's end.

        Returns:
            Shape (row, time, dim).
        """
        x = self.positions.add(embedded * self.embedding_scale, positions)
        return self.dropout(self.embedding_norm(x))  # type: ignore[no-any-return]

    def read(self, source: Tensor, attend: Iterable[AttendSelf]) -> None:
        """Run the layers over sources of shape (row, src), int64, with attention that keeps what it is given."""
        positions = torch.arange(source.shape[1], device=source.device)[None, :]
        x, rotate = self.embed(self.source_embedding(source), positions), self.positions.rotation(positions)
        for layer, attend_self in zip(self._layers(), attend, strict=True):
            x = layer(x, rotate, attend_self)

    def prefix_mask(self, lengths: Tensor, size: int) -> Tensor:
        """What source tokens may attend to: shape (row, 1, src, src), bool, of sources with lengths (row,)."""
        mask = length_mask(lengths, size)[:, None, None, :].expand(-1, 1, size, size)
        return mask.tril() if self.settings.prefix == "causal" else mask

    def finish(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm model (nothing for post-norm), shape (row, time, dim)."""
        return self.norm(x)  # type: ignore[no-any-return]

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Shape (..., dim) to logits (..., vocab)."""
        return self.vocab_projection(hidden)  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced outputs at the target, shape (row, time, dim); see the base class."""
        return self._run(source, lengths, target)

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """What the target attends to of the source, shape (layer, row, head, time, src); the rest is its own."""
        weights: list[Tensor] = []
        self._run(source, lengths, target, watch=weights.append)
        return torch.stack(weights)[..., source.shape[1] :, : source.shape[1]]

    def _run(
        self, source: Tensor, lengths: Tensor, target: Tensor, watch: Callable[[Tensor], None] | None = None
    ) -> Tensor:
        """Run the layers over source and target at once."""
        src, tgt, device = source.shape[1], target.shape[1], source.device
        steps = torch.arange(tgt, device=device)
        positions = torch.cat([torch.arange(src, device=device).expand(len(source), -1), lengths[:, None] + steps], 1)
        tokens = torch.cat([self.source_embedding(source), self.target_embedding(target)], dim=1)
        x, rotate = self.embed(tokens, positions), self.positions.rotation(positions)
        real = length_mask(lengths, src)[:, None, None, :]
        above = torch.cat([self.prefix_mask(lengths, src), real.new_zeros(len(source), 1, src, tgt)], dim=3)
        causal = (steps[:, None] >= steps).expand(len(source), 1, tgt, tgt)
        mask = torch.cat([above, torch.cat([real.expand(-1, 1, tgt, src), causal], dim=3)], dim=2)
        dropout = self.settings.attention_dropout if self.training else 0.0
        for layer in self._layers():
            attention = layer.self_attention

            def attend(q: Tensor, k: Tensor, v: Tensor, attention: MultiHeadAttention = attention) -> Tensor:
                if watch is not None:
                    watch(attention.weights(q, k, mask))
                return attention.attend(q, k, v, attn_mask=mask, dropout_p=dropout)

            x = layer(x, rotate, attend)
        return self.finish(x[:, src:])

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerState:
        """Read the source, shape (row, src) with lengths (row,), and keep every layer's keys and values."""
        memory: list[tuple[Tensor, Tensor]] = []
        mask = self.prefix_mask(lengths, source.shape[1])

        def attend(q: Tensor, k: Tensor, v: Tensor, attention: MultiHeadAttention) -> Tensor:
            memory.append((k, v))
            return attention.attend(q, k, v, attn_mask=mask)

        self.read(source, [partial(attend, attention=layer.self_attention) for layer in self._layers()])
        empty = memory[0][0][:, :0]
        real = length_mask(lengths, source.shape[1])[:, None, None, :]
        return TransformerState(0, tuple((empty, empty) for _ in memory), tuple(memory), real)

    def decode_step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Feed one token a row; shape (row,) to logits (row, vocab) and the longer state."""
        positions = state.mask.sum(dim=-1)[:, 0] + state.position
        x = self.embed(self.target_embedding(tokens[:, None]), positions)
        rotate = self.positions.rotation(positions)
        grown: list[tuple[Tensor, Tensor]] = []
        own = state.mask.new_ones(len(tokens), 1, 1, state.position + 1)
        mask = torch.cat([state.mask, own], dim=3)
        for layer, past, source in zip(self._layers(), state.own, state.source, strict=True):

            def attend(
                q: Tensor,
                k: Tensor,
                v: Tensor,
                past: tuple[Tensor, Tensor] = past,
                source: tuple[Tensor, Tensor] = source,
                attention: MultiHeadAttention = layer.self_attention,
            ) -> Tensor:
                grown.append((torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)))
                keys, values = (torch.cat(parts, dim=1) for parts in zip(source, grown[-1], strict=True))
                return attention.attend(q, keys, values, attn_mask=mask)

            x = layer(x, rotate, attend)
        logits = self.project_vocab(self.finish(x))[:, 0]
        return logits, TransformerState(state.position + 1, tuple(grown), state.source, state.mask)
