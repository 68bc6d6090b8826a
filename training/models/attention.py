"""The attention functions of recurrent models: additive (Bahdanau) and multiplicative (Luong).

All score how well each decoder query matches each source position, and mix the encoder states by those scores.
Several queries may share one source (the hypotheses of a beam), so queries have an axis of their own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

AttentionKind = Literal["bahdanau", "luong_dot", "luong_general"]

# Finite, so that a row without any source token gives even weights rather than NaN.
MASKED = -1e9


class Attention(nn.Module):
    """Base: softmax over scores, then a weighted sum of encoder states."""

    def project_keys(self, states: Tensor) -> Tensor:
        """Prepare encoder states once per source: shape (row, src, state_dim) to (row, src, attention_dim)."""
        return states

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score shape (row, query, query_dim) against keys (row, src, attention_dim): shape (row, query, src)."""
        raise NotImplementedError

    def forward(self, queries: Tensor, states: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            queries: Shape (row, query, query_dim).
            states: Shape (row, src, state_dim).
            keys: What `project_keys` made of the states, shape (row, src, attention_dim).
            mask: Shape (row, src), bool, True at real source tokens.

        Returns:
            Context of shape (row, query, state_dim), and the weights of shape (row, query, src), which sum to 1.
        """
        scores = self.scores(queries, keys).masked_fill(~mask[:, None, :], MASKED)
        weights = scores.softmax(dim=-1)
        return weights @ states, weights


class BahdanauAttention(Attention):
    """Additive attention, v^T tanh(W q + U h) (Bahdanau, Cho and Bengio 2015, appendix A.1.2)."""

    def __init__(self, query_dim: int, state_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, attention_dim, bias=False)
        self.key = nn.Linear(state_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def project_keys(self, states: Tensor) -> Tensor:
        """U h + b, shape (row, src, state_dim) to (row, src, attention_dim)."""
        return self.key(states)  # type: ignore[no-any-return]

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """v^T tanh(W q + key), shape (row, query, src)."""
        mixed = torch.tanh(self.query(queries)[:, :, None, :] + keys[:, None, :, :])
        return self.score(mixed).squeeze(-1)  # type: ignore[no-any-return]


class LuongDotAttention(Attention):
    """Multiplicative attention without weights, q^T h (Luong, Pham and Manning 2015, equation 8, "dot")."""

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """q^T h, shape (row, query, src); query and state dimensions are equal."""
        return queries @ keys.transpose(1, 2)


class LuongGeneralAttention(Attention):
    """Multiplicative attention, q^T W h (Luong, Pham and Manning 2015, equation 8, "general")."""

    def __init__(self, query_dim: int, state_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(state_dim, query_dim, bias=False)

    def project_keys(self, states: Tensor) -> Tensor:
        """W h, shape (row, src, state_dim) to (row, src, query_dim)."""
        return self.key(states)  # type: ignore[no-any-return]

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """q^T (W h), shape (row, query, src)."""
        return queries @ keys.transpose(1, 2)


def build_attention(kind: AttentionKind, query_dim: int, state_dim: int, attention_dim: int) -> Attention:
    """Build the attention of that name; only Bahdanau's has a free `attention_dim`."""
    if kind == "bahdanau":
        return BahdanauAttention(query_dim, state_dim, attention_dim)
    if kind == "luong_dot":
        return LuongDotAttention()
    return LuongGeneralAttention(query_dim, state_dim)
