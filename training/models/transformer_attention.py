"""Attention of Transformers: its projections, which a layer owns, and what stands between them, which it is given.

The same layer attends to whole sentences in training, to a growing cache in decoding and to static buffers in an
exported graph. Each of these is an object that answers two questions: what do queries find among the tokens being read
(``within``), and what do they find in the source (``across``)? Layers that read the target with a recurrence instead of
self-attention have it carry their state (``carry``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.models.positions import Rotation
from training.models.ssru import Recurrence, carry_all, carry_one

KeysValues = tuple[Tensor, Tensor]

# Up to as many keys, training on a CPU is faster without the fused kernel, for its backward pass: 16 ms for 58 at 10
# keys, 15 for 25 at 30, 27 for 30 at 120, but 53 for 29 at 250 (4,000 queries, 4 heads of 64, bfloat16, one core).
SHORT_KEYS = 128


class SelfAttention(Protocol):
    """Attention of a layer to the tokens that it reads."""

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Map q (row, time, dim), k and v (row, time, kv_dim) of these tokens to contexts (row, time, dim)."""
        ...


class LayerAttention(SelfAttention, Recurrence, Protocol):
    """Self-attention or recurrence, and cross-attention of a layer."""

    def across(self, q: Tensor) -> Tensor:
        """Map queries to contexts over the source, both of shape (row, time, dim)."""
        ...


class MultiHeadAttention(nn.Module):
    """Projections of multi-head attention (Vaswani et al. 2017, section 3.2.2).

    With fewer heads of keys and values than of queries, each serves a group of them (Ainslie et al. 2023).
    """

    def __init__(self, dim: int, heads: int, kv_heads: int = 0, *, bias: bool = True) -> None:
        """Build the projections; ``kv_heads`` of 0 stands for as many as there are heads of queries."""
        super().__init__()
        self.kv_dim = dim // heads * (kv_heads or heads)
        self.query = nn.Linear(dim, dim, bias=bias)
        # Keys and values always read the same input: one matrix product instead of two.
        self.key_value = nn.Linear(dim, 2 * self.kv_dim, bias=bias)
        self.output = nn.Linear(dim, dim, bias=bias)

    def start(self, like: Tensor) -> KeysValues:
        """Return keys and values of no tokens, shape (row, 0, kv_dim), for the rows of ``like``."""
        empty = like.new_zeros(like.shape[0], 0, self.kv_dim)
        return empty, empty

    def project_keys_values(self, x: Tensor) -> KeysValues:
        """Project shape (row, time, dim) to two tensors of shape (row, time, kv_dim), the heads side by side."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return keys, values

    def within(self, x: Tensor, rotate: Rotation, attention: SelfAttention) -> Tensor:
        """Attend to the tokens themselves, shape (row, time, dim); ``rotate`` turns queries and keys by position."""
        keys, values = self.project_keys_values(x)
        return self.output(attention.within(rotate(self.query(x)), rotate(keys), values))  # type: ignore[no-any-return]

    def across(self, x: Tensor, attention: LayerAttention) -> Tensor:
        """Attend to the source, shape (row, time, dim) to the same."""
        return self.output(attention.across(self.query(x)))  # type: ignore[no-any-return]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, **options: Any) -> Tensor:
    """Compute softmax(q k^T / sqrt(head_dim)) v of every head (Vaswani et al. 2017, equation 1).

    Args:
        q: Shape (row, query, dim), the heads side by side.
        k: Shape (row, time, kv_dim); narrower than ``q`` if there are fewer heads of keys.
        v: Shape (row, time, kv_dim).
        heads: Number of heads of queries.
        options: Of torch's ``scaled_dot_product_attention``.

    Returns:
        Contexts, shape (row, query, dim).
    """
    size, grouped = q.shape[-1] // heads, k.shape[-1] < q.shape[-1]
    q, k, v = (_apart(x, size) for x in (q, k, v))
    with _kernel(q, k):
        context: Tensor = functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped, **options)
    return context.transpose(1, 2).flatten(2)


def _kernel(q: Tensor, k: Tensor) -> AbstractContextManager[None]:
    """Choose what computes attention: torch's own choice, but for short keys that are trained on a CPU."""
    if q.requires_grad and q.device.type == "cpu" and k.shape[2] <= SHORT_KEYS:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def attention_weights(q: Tensor, k: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Compute the attention weights of every head.

    Args:
        q: Shape (row, query, dim).
        k: Shape (row, time, kv_dim).
        heads: Number of heads of queries.
        mask: Broadcastable to (row, head, query, time), bool, True where attention is allowed.

    Returns:
        Shape (row, head, query, time).
    """
    size, group = q.shape[-1] // heads, q.shape[-1] // k.shape[-1]
    q, k = _apart(q, size), _apart(k, size).repeat_interleave(group, dim=1)
    scores: Tensor = q @ k.transpose(2, 3) / size**0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def _apart(x: Tensor, size: int) -> Tensor:
    """Take heads apart: shape (row, time, dim) to (row, head, time, head_dim)."""
    return x.unflatten(-1, (-1, size)).transpose(1, 2)  # type: ignore[no-any-return]


@dataclass
class MaskedAttention:
    """Attention of whole rows to themselves under a mask.

    Attributes:
        heads: Number of heads of queries.
        mask: Broadcastable to (row, head, time, time), bool, True where attention is allowed.
        dropout: Probability of dropping an attention weight.
        weights: Where to put the attention weights, shape (row, head, time, time), if they are wanted.
    """

    heads: int
    mask: Tensor
    dropout: float = 0.0
    weights: list[Tensor] | None = None

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the row itself; shapes as for ``SelfAttention``."""
        if self.weights is not None:
            self.weights.append(attention_weights(q, k, self.heads, self.mask))
        return attend(q, k, v, self.heads, attn_mask=self.mask, dropout_p=self.dropout)


@dataclass(kw_only=True)
class TeacherForced(MaskedAttention):
    """Attention of a whole target, known in advance, to what precedes each token, and to its source under the mask.

    Attributes:
        source: Keys and values of the source, shape (row, src, kv_dim).
    """

    source: KeysValues

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the tokens so far; shapes as for ``SelfAttention``."""
        return attend(q, k, v, self.heads, is_causal=True, dropout_p=self.dropout)

    def carry(self, forget: Tensor, x: Tensor) -> Tensor:
        """Carry the state over the whole target; shapes as for ``Recurrence``."""
        return carry_all(forget, x)

    def across(self, q: Tensor) -> Tensor:
        """Attend to the source; shapes as for ``LayerAttention``."""
        return super().within(q, *self.source)


@dataclass
class Remembered:
    """Another attention, and the keys and values that passed through it.

    Attributes:
        attention: What attends.
        own: Keys and values, shape (row, time, kv_dim), once a layer has run.
    """

    attention: SelfAttention
    own: KeysValues = field(init=False)

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend as the other does; shapes as for ``SelfAttention``."""
        self.own = k, v
        return self.attention.within(q, k, v)


@dataclass
class Cached:
    """Attention of one more token to the target so far, and to its source.

    Attributes:
        heads: Number of heads of queries.
        own: Keys and values of the target so far, shape (row, position, kv_dim), or the state of a recurrence, shape
            (row, 1, dim); the layer adds the token's.
        source: Keys and values of the source, shape (row, src, kv_dim).
        mask: Shape (row, 1, 1, src), bool, True at real source tokens.
    """

    heads: int
    own: tuple[Tensor, ...]
    source: KeysValues
    mask: Tensor

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Add the token to the cache and attend to it; shapes as for ``SelfAttention``."""
        self.own = torch.cat([self.own[0], k], dim=1), torch.cat([self.own[1], v], dim=1)
        return attend(q, *self.own, self.heads)

    def carry(self, forget: Tensor, x: Tensor) -> Tensor:
        """Add the token to the state; shapes as for ``Recurrence``."""
        self.own = (carry_one(self.own[0], forget, x),)
        return self.own[0]

    def across(self, q: Tensor) -> Tensor:
        """Attend to the source; shapes as for ``LayerAttention``."""
        return attend(q, *self.source, self.heads, attn_mask=self.mask)


class CachedPrefix(Cached):
    """Attention of one more token to its source and the target so far, in one softmax."""

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Add the token to the cache and attend to all; shapes as for ``SelfAttention``."""
        self.own = torch.cat([self.own[0], k], dim=1), torch.cat([self.own[1], v], dim=1)
        keys, values = (torch.cat(parts, dim=1) for parts in zip(self.source, self.own, strict=True))
        mask = functional.pad(self.mask, (0, self.own[0].shape[1]), value=True)
        return attend(q, keys, values, self.heads, attn_mask=mask)
