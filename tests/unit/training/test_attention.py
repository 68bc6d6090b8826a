"""Attention against the papers' formulas, written out in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.models.attention import AttentionKind, BahdanauAttention, LuongGeneralAttention, build_attention

Array = NDArray[np.float64]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()  # type: ignore[no-any-return]


def numpy_score(attention: torch.nn.Module, query: Array, state: Array) -> float:
    w = {name: p.detach().double().numpy() for name, p in attention.named_parameters()}
    if isinstance(attention, BahdanauAttention):
        inner = np.tanh(w["query.weight"] @ query + w["key.weight"] @ state + w["key.bias"])
        return float(w["score.weight"][0] @ inner)
    if isinstance(attention, LuongGeneralAttention):
        return float(query @ (w["key.weight"] @ state))
    return float(query @ state)


@pytest.mark.parametrize("kind", ["bahdanau", "luong_dot", "luong_general"])
def test_matches_formula_written_in_numpy(kind: AttentionKind) -> None:
    torch.manual_seed(1)
    query_dim, state_dim = 4, 4 if kind == "luong_dot" else 6
    attention = build_attention(kind, query_dim, state_dim, attention_dim=5)
    queries, states = torch.randn(2, 3, query_dim), torch.randn(2, 7, state_dim)
    lengths = [7, 4]
    mask = torch.arange(7)[None, :] < torch.tensor(lengths)[:, None]
    context, weights = attention(queries, states, attention.project_keys(states), mask)
    for row, length in enumerate(lengths):
        for q in range(3):
            q_vector, h = queries[row, q].double().numpy(), states[row, :length].double().numpy()
            expected = softmax(np.array([numpy_score(attention, q_vector, h[j]) for j in range(length)]))
            np.testing.assert_allclose(weights[row, q, :length].detach().numpy(), expected, atol=1e-6)
            assert weights[row, q, length:].abs().max().item() == 0.0 if length < 7 else True
            np.testing.assert_allclose(context[row, q].detach().numpy(), expected @ h, atol=1e-6)


@pytest.mark.parametrize("kind", ["bahdanau", "luong_dot", "luong_general"])
def test_row_without_source_gives_even_weights_not_nan(kind: AttentionKind) -> None:
    attention = build_attention(kind, 4, 4, 4)
    states = torch.randn(1, 3, 4)
    _, weights = attention(torch.randn(1, 1, 4), states, attention.project_keys(states), torch.zeros(1, 3).bool())
    torch.testing.assert_close(weights, torch.full((1, 1, 3), 1 / 3))
