"""Layers that all Transformers are made of; their callers say what they attend to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from training.errors import ModelError
from training.models.dropout import TimeSharedDropout
from training.models.positions import PositionEmbedding, PositionKind, Positions, RotaryEmbedding, Rotation
from training.models.ssru import Ssru
from training.models.transformer_attention import LayerAttention, MultiHeadAttention, SelfAttention


def _swiglu(x: Tensor) -> Tensor:
    gate, linear = x.chunk(2, dim=-1)
    return functional.silu(gate) * linear


# Each with the width of its input in units of its output's: a gated unit (Shazeer 2020) reads two.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "relu": (functional.relu, 1),
    "gelu": (functional.gelu, 1),
    "silu": (functional.silu, 1),
    "swiglu": (_swiglu, 2),
}


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """Sizes and variants that all Transformers share.

    Attributes:
        dim: Width of the residual stream.
        heads: Attention heads; divides ``dim``.
        feedforward_dim: Width of the hidden feed-forward layer.
        norm: Normalise before each sublayer (``pre``, with a final norm) or after its residual sum (``post``).
        normalization: LayerNorm (``layer``), or RMSNorm (``rms``, Zhang and Sennrich 2019).
        norm_epsilon: Added to the variance by LayerNorm.
        activation: Of the feed-forward layer; ``swiglu`` is gated, and has half as many weights again.
        bias: Whether linear layers and LayerNorms have biases.
        positions: Fixed sinusoids (those of the paper, or of its code, ``tensor2tensor``), a learned table, or rotated
            queries and keys.
        position_offset: Table rows before position 0 (BART: 2).
        max_positions: Longest text that the model reads or writes, in tokens, special ones included.
        scale_embedding: Multiply token embeddings by sqrt(dim).
        embedding_norm: Normalise the embedding sum (BART).
        dropout: On embeddings and every sublayer's output.
        feedforward_dropout: Between the two feed-forward matrices.
        attention_dropout: On attention weights, in training.
    """

    dim: int = 256
    heads: int = 4
    feedforward_dim: int = 1024
    norm: Literal["pre", "post"] = "pre"
    normalization: Literal["layer", "rms"] = "layer"
    norm_epsilon: float = 1e-5
    activation: Literal["relu", "gelu", "silu", "swiglu"] = "relu"
    bias: bool = True
    positions: PositionKind = "sinusoidal"
    position_offset: int = 0
    max_positions: int = 512
    scale_embedding: bool = True
    embedding_norm: bool = False
    dropout: float = 0.1
    feedforward_dropout: float = 0.0
    attention_dropout: float = 0.0

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.heads

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ModelError: If ``heads`` does not divide ``dim``, or rotation has an odd width to turn.
        """
        if self.dim % self.heads:
            raise ModelError(f"model.dim is {self.dim}, which {self.heads} heads do not divide; change one of them")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ModelError(f"a head has {self.head_dim} dimensions, but rotary positions need an even number")

    def positions_for(self, source: int, target: int) -> int:
        """Return the positions that a source and a target of these token counts, without special ones, need."""
        return max(source, target) + 1

    def check_lengths(self, source: int, target: int) -> None:
        """Check that texts of these token counts, without special tokens, have positions.

        Raises:
            ModelError: If there are too few.
        """
        needed = self.positions_for(source, target)
        if needed > self.max_positions:
            raise ModelError(
                f"model.max_positions is {self.max_positions}, but sources of {source} tokens and targets of {target} "
                f"need {needed} with the special tokens; raise it or allow fewer tokens"
            )


def check_kv_heads(name: str, kv_heads: int, heads: int) -> None:
    """Check that heads of keys and values, 0 for as many as there are of queries, serve groups of equal size.

    Raises:
        ModelError: If they do not.
    """
    if kv_heads and heads % kv_heads:
        raise ModelError(f"model.{name} is {kv_heads}, which does not divide the {heads} heads; change one of them")


def build_norm(settings: StackSettings) -> nn.Module:
    """Build one normalisation layer over dim."""
    if settings.normalization == "rms":
        return nn.RMSNorm(settings.dim, eps=1e-6)
    return nn.LayerNorm(settings.dim, eps=settings.norm_epsilon, bias=settings.bias)


def build_positions(settings: StackSettings) -> Positions:
    """Build the positions of one side."""
    if settings.positions == "rotary":
        return RotaryEmbedding(settings.max_positions, settings.head_dim)
    kind, offset = settings.positions, settings.position_offset
    return PositionEmbedding(settings.max_positions, settings.dim, kind=kind, offset=offset)


def build_attention(settings: StackSettings, kv_heads: int = 0) -> MultiHeadAttention:
    """Build one attention; ``kv_heads`` of 0 stands for as many as there are heads of queries."""
    return MultiHeadAttention(settings.dim, settings.heads, kv_heads, bias=settings.bias)


def initialise(layer: nn.Module) -> None:
    """Give a layer Xavier-uniform matrices (Glorot and Bengio 2010) and zero biases."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class FeedForward(nn.Module):
    """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3), shape (row, time, dim) kept."""

    def __init__(self, settings: StackSettings) -> None:
        super().__init__()
        self.activation, factor = ACTIVATIONS[settings.activation]
        self.expand = nn.Linear(settings.dim, factor * settings.feedforward_dim, bias=settings.bias)
        self.contract = nn.Linear(settings.feedforward_dim, settings.dim, bias=settings.bias)
        self.dropout = nn.Dropout(settings.feedforward_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map shape (row, time, dim) to the same."""
        return self.contract(self.dropout(self.activation(self.expand(x))))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """x + dropout(sublayer(x)), normalised before the sublayer (pre) or after the sum (post)."""

    def __init__(self, settings: StackSettings) -> None:
        super().__init__()
        self.norm = build_norm(settings)
        self.dropout = TimeSharedDropout(settings.dropout)
        self.before = settings.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``sublayer``, a map of shape (row, time, dim) to itself."""
        if self.before:
            return x + self.dropout(sublayer(self.norm(x)))  # type: ignore[no-any-return]
        return self.norm(x + self.dropout(sublayer(x)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a residual (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, settings: StackSettings, kv_heads: int = 0) -> None:
        super().__init__()
        self.self_attention = build_attention(settings, kv_heads)
        self.feed_forward = FeedForward(settings)
        self.self_residual = Residual(settings)
        self.feed_forward_residual = Residual(settings)

    @property
    def target_reader(self) -> MultiHeadAttention:
        """What reads the target so far, in a layer that reads it."""
        return self.self_attention

    def forward(self, x: Tensor, rotate: Rotation, attention: SelfAttention) -> Tensor:
        """Map shape (row, time, dim) to the same; ``rotate`` turns queries and keys by the tokens' positions."""
        x = self.self_residual(x, lambda y: self.self_attention.within(y, rotate, attention))
        return self.feed_forward_residual(x, self.feed_forward)  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention or an SSRU, cross-attention and feed-forward, each in a residual (Vaswani et al. 2017)."""

    def __init__(self, settings: StackSettings, kv_heads: int = 0, *, recurrent: bool = False) -> None:
        super().__init__()
        if recurrent:
            self.ssru = Ssru(settings.dim)
        else:
            self.self_attention = build_attention(settings, kv_heads)
        self.recurrent = recurrent
        self.cross_attention = build_attention(settings, kv_heads)
        self.feed_forward = FeedForward(settings)
        self.self_residual = Residual(settings)
        self.cross_residual = Residual(settings)
        self.feed_forward_residual = Residual(settings)

    @property
    def target_reader(self) -> MultiHeadAttention | Ssru:
        """What reads the target so far."""
        return self.ssru if self.recurrent else self.self_attention

    def forward(self, x: Tensor, rotate: Rotation, attention: LayerAttention) -> Tensor:
        """Map shape (row, time, dim) to the same; ``rotate`` turns queries and keys by the tokens' positions."""
        x = self.self_residual(x, lambda y: self.target_reader.within(y, rotate, attention))
        x = self.cross_residual(x, lambda y: self.cross_attention.across(y, attention))
        return self.feed_forward_residual(x, self.feed_forward)  # type: ignore[no-any-return]
