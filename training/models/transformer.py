"""The Transformer encoder-decoder of Vaswani et al., "Attention Is All You Need" (2017).

Depths, norm placement, activation, biases, positions and tying are settings, so that Marian and BART-family models
have an exact counterpart. The decoder layer does not own its attention: the caller passes it in. Training passes
causal attention, `decode_step` a growing cache, and an exporter whatever its graph needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import ModelError
from training.models.contract import TranslationModel, Vocabulary
from training.models.dropout import TimeSharedDropout
from training.models.masks import length_mask
from training.models.positions import PositionEmbedding

AttendSelf = Callable[[Tensor, Tensor, Tensor], Tensor]
AttendCross = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Sizes and variants of a Transformer.

    Attributes:
        family: Tells the model families apart in a config file.
        dim: Width of the residual stream.
        heads: Attention heads; divides `dim`.
        feedforward_dim: Width of the hidden feed-forward layer.
        encoder_layers: Encoder depth.
        decoder_layers: Decoder depth.
        norm: LayerNorm before each sublayer (`pre`, with a final norm) or after its residual sum (`post`).
        activation: Of the feed-forward layer.
        bias: Whether linear layers and LayerNorms have biases.
        positions: Fixed sinusoids or a learned table.
        position_offset: Table rows before position 0 (BART: 2).
        max_positions: Longest source or target, in tokens.
        scale_embedding: Multiply token embeddings by sqrt(dim).
        embedding_norm: LayerNorm after the embedding sum (BART).
        tie: One matrix for source, target and output (`all`), for target and output (`target`), or none.
        output_bias: Add a bias to the logits (Marian's and BART's final logits bias).
        dropout: On embeddings and every sublayer's output.
        feedforward_dropout: Between the two feed-forward matrices.
        attention_dropout: On attention weights, in training.
    """

    family: Literal["transformer"] = "transformer"
    dim: int = 256
    heads: int = 4
    feedforward_dim: int = 1024
    encoder_layers: int = 6
    decoder_layers: int = 2
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    bias: bool = True
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    position_offset: int = 0
    max_positions: int = 512
    scale_embedding: bool = True
    embedding_norm: bool = False
    tie: Literal["all", "target", "none"] = "all"
    output_bias: bool = False
    dropout: float = 0.1
    feedforward_dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ModelError: If `heads` does not divide `dim`.
        """
        if self.dim % self.heads:
            raise ModelError(f"model.dim is {self.dim}, which {self.heads} heads do not divide; change one of them.")


class MultiHeadAttention(nn.Module):
    """Multi-head attention (section 3.2.2): its projections, and the attention between them, apart.

    Attention weights are softmax(q k^T / sqrt(head_dim)); whoever computes them decides what may be attended to.
    """

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        self.query = nn.Linear(settings.dim, settings.dim, bias=settings.bias)
        # Keys and values always read the same input: one matrix product instead of two.
        self.key_value = nn.Linear(settings.dim, 2 * settings.dim, bias=settings.bias)
        self.output = nn.Linear(settings.dim, settings.dim, bias=settings.bias)

    def project_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (row, time, dim) to two tensors of the same shape."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return keys, values

    def attend(self, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        """Scaled dot-product attention of every head.

        Args:
            q: Shape (row, query, dim), the heads side by side.
            k: Shape (row, time, dim).
            v: Shape (row, time, dim).
            options: Of torch's ``scaled_dot_product_attention``.

        Returns:
            Contexts, shape (row, query, dim).
        """
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Position-wise feed-forward network (section 3.3), shape (row, time, dim) kept."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.expand = nn.Linear(settings.dim, settings.feedforward_dim, bias=settings.bias)
        self.contract = nn.Linear(settings.feedforward_dim, settings.dim, bias=settings.bias)
        self.activation = ACTIVATIONS[settings.activation]
        self.dropout = nn.Dropout(settings.feedforward_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map shape (row, time, dim) to the same."""
        return self.contract(self.dropout(self.activation(self.expand(x))))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """x + dropout(sublayer(x)) with its LayerNorm before the sublayer (pre) or after the sum (post)."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(settings.dim, bias=settings.bias)
        self.dropout = TimeSharedDropout(settings.dropout)
        self.before = settings.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `sublayer`, a map of shape (row, time, dim) to itself."""
        if self.before:
            return x + self.dropout(sublayer(self.norm(x)))  # type: ignore[no-any-return]
        return self.norm(x + self.dropout(sublayer(x)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a residual (section 3.1)."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(settings)
        self.feed_forward = FeedForward(settings)
        self.self_residual = Residual(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(self, x: Tensor, attend: AttendSelf) -> Tensor:
        """Map shape (row, src, dim) to the same; `attend(q, k, v)` returns the context."""

        def self_sublayer(y: Tensor) -> Tensor:
            attention = self.self_attention
            return attention.output(attend(attention.query(y), *attention.project_keys_values(y)))  # type: ignore[no-any-return]

        x = self.self_residual(x, self_sublayer)
        return self.feed_forward_residual(x, self.feed_forward)  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention and feed-forward, each in a residual (section 3.1)."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(settings)
        self.cross_attention = MultiHeadAttention(settings)
        self.feed_forward = FeedForward(settings)
        self.self_residual = Residual(settings)
        self.cross_residual = Residual(settings)
        self.feed_forward_residual = Residual(settings)

    def forward(self, x: Tensor, attend_self: AttendSelf, attend_cross: AttendCross) -> Tensor:
        """Run one layer with attention supplied by the caller.

        Args:
            x: Shape (row, time, dim).
            attend_self: Maps q, k, v of the new tokens, each (row, time, dim), to their context of the same shape.
            attend_cross: Maps q to the context over the source, both (row, time, dim).

        Returns:
            Shape (row, time, dim).
        """

        def self_sublayer(y: Tensor) -> Tensor:
            attention = self.self_attention
            return attention.output(attend_self(attention.query(y), *attention.project_keys_values(y)))  # type: ignore[no-any-return]

        def cross_sublayer(y: Tensor) -> Tensor:
            return self.cross_attention.output(attend_cross(self.cross_attention.query(y)))  # type: ignore[no-any-return]

        x = self.self_residual(x, self_sublayer)
        x = self.cross_residual(x, cross_sublayer)
        return self.feed_forward_residual(x, self.feed_forward)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TransformerState:
    """Decoder state: keys and values of every layer.

    Attributes:
        position: Number of tokens already fed.
        own: Per layer, keys and values of the target so far, shape (row, position, dim).
        source: Per layer, keys and values of the source, shape (row, src, dim).
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


class Transformer(TranslationModel[TransformerState]):
    """Encoder-decoder Transformer."""

    def __init__(self, settings: TransformerSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights.

        Raises:
            ModelError: If all embeddings are to be tied but the two sides do not share a vocabulary.
        """
        super().__init__()
        if settings.tie == "all" and not vocabulary.shared:
            raise ModelError("model.tie is 'all', but source and target vocabularies differ; set it to 'target'.")
        self.settings, self.vocabulary = settings, vocabulary
        dim = settings.dim
        self.target_embedding = nn.Embedding(vocabulary.target_size, dim)
        self.source_embedding = (
            self.target_embedding if settings.tie == "all" else nn.Embedding(vocabulary.source_size, dim)
        )
        self.vocab_projection = nn.Linear(dim, vocabulary.target_size, bias=settings.output_bias)
        if settings.tie != "none":
            self.vocab_projection.weight = self.target_embedding.weight
        learned = settings.positions == "learned"
        self.source_positions, self.target_positions = (
            PositionEmbedding(settings.max_positions, dim, learned=learned, offset=settings.position_offset)
            for _ in range(2)
        )
        self.encoder_layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.encoder_layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.decoder_layers))

        def norm(*, wanted: bool) -> nn.Module:
            return nn.LayerNorm(dim, bias=settings.bias) if wanted else nn.Identity()

        self.encoder_norm, self.decoder_norm = (norm(wanted=settings.norm == "pre") for _ in range(2))
        self.source_embedding_norm, self.target_embedding_norm = (
            norm(wanted=settings.embedding_norm) for _ in range(2)
        )
        self.dropout = TimeSharedDropout(settings.dropout)
        self.embedding_scale = dim**0.5 if settings.scale_embedding else 1.0
        self._initialise()

    def _initialise(self) -> None:
        """Xavier-uniform matrices; embeddings of variance 1/dim, so that a tied output starts near unit scale."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.vocab_projection:
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for weight in {self.source_embedding.weight, self.target_embedding.weight, self.vocab_projection.weight}:
            nn.init.normal_(weight, std=self.settings.dim**-0.5)

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder_layers))

    def _attention_dropout(self) -> float:
        return self.settings.attention_dropout if self.training else 0.0

    def encode_states(self, source: Tensor, lengths: Tensor, attend: AttendSelf | None = None) -> Tensor:
        """Run the encoder.

        Args:
            source: Shape (row, src), int64.
            lengths: Shape (row,), int64; tokens from there on are padding and are not attended to.
            attend: Self-attention over the real tokens, for callers that bring their own.

        Returns:
            Shape (row, src, dim).
        """
        positions = torch.arange(source.shape[1], device=source.device)[None, :]
        x = self.source_embedding(source) * self.embedding_scale + self.source_positions(positions)
        x = self.dropout(self.source_embedding_norm(x))
        mask = length_mask(lengths, source.shape[1])[:, None, None, :]

        options = {"attn_mask": mask, "dropout_p": self._attention_dropout()}
        for layer in cast("Iterable[EncoderLayer]", self.encoder_layers):
            x = layer(x, attend or partial(layer.self_attention.attend, **options))
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def embed_target(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embed decoder inputs.

        Args:
            tokens: Shape (row, time), int64.
            positions: Broadcastable to (row, time), int64, from 0.

        Returns:
            Shape (row, time, dim).
        """
        x = self.target_embedding(tokens) * self.embedding_scale + self.target_positions(positions)
        return self.dropout(self.target_embedding_norm(x))  # type: ignore[no-any-return]

    def finish_decoder(self, x: Tensor) -> Tensor:
        """Apply the final norm of a pre-norm decoder (nothing for post-norm), shape (row, time, dim)."""
        return self.decoder_norm(x)  # type: ignore[no-any-return]

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Shape (..., dim) to logits (..., vocab)."""
        return self.vocab_projection(hidden)  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced decoder outputs, shape (row, time, dim); see the base class."""
        states = self.encode_states(source, lengths)
        mask = length_mask(lengths, source.shape[1])[:, None, None, :]
        dropout = self._attention_dropout()
        x = self.embed_target(target, torch.arange(target.shape[1], device=target.device)[None, :])

        for layer in self._decoder_layers():
            keys, values = layer.cross_attention.project_keys_values(states)
            attend_self = partial(layer.self_attention.attend, is_causal=True, dropout_p=dropout)
            attend_cross = partial(layer.cross_attention.attend, k=keys, v=values, attn_mask=mask, dropout_p=dropout)
            x = layer(x, attend_self, attend_cross)
        return self.finish_decoder(x)

    def encode(self, source: Tensor, lengths: Tensor) -> TransformerState:
        """Encode the source, shape (row, src) with lengths (row,), and project every layer's keys and values."""
        states = self.encode_states(source, lengths)
        attention = [layer.cross_attention for layer in self._decoder_layers()]
        empty = states.new_zeros(source.shape[0], 0, self.settings.dim)
        return TransformerState(
            position=0,
            own=tuple((empty, empty) for _ in attention),
            source=tuple(a.project_keys_values(states) for a in attention),
            mask=length_mask(lengths, source.shape[1])[:, None, None, :],
        )

    def decode_step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Feed one token a row; shape (row,) to logits (row, vocab) and the longer state."""
        position = torch.full((1, 1), state.position, dtype=torch.int64, device=tokens.device)
        x = self.embed_target(tokens[:, None], position)
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
            x = layer(x, attend_self, attend_cross)
        logits = self.project_vocab(self.finish_decoder(x))[:, 0]
        return logits, TransformerState(state.position + 1, tuple(grown), state.source, state.mask)
