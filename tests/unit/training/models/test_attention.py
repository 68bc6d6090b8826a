"""Attention against the papers' formulas, written out in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.models.attention import (
    AdditiveScore,
    Attention,
    AttentionKind,
    Encoded,
    GeneralScore,
    SourceReader,
    SpanKind,
    build_reader,
)

Array = NDArray[np.float64]
SCORED: list[AttentionKind] = ["bahdanau", "luong_dot", "luong_general", "luong_concat"]
LENGTHS = [7, 4]
WINDOW = 2


def make(kind: AttentionKind, span: SpanKind) -> SourceReader:
    torch.manual_seed(1)
    state_dim = 4 if kind == "luong_dot" else 6
    return build_reader(kind, span, query_dim=4, state_dim=state_dim, attention_dim=5, window=WINDOW)


def encoded(reader: SourceReader) -> Encoded:
    states = torch.randn(2, 7, reader.context_dim)
    return Encoded(states, torch.randn(2, reader.context_dim), torch.tensor(LENGTHS))


def weights_of(module: torch.nn.Module) -> dict[str, Array]:
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


def numpy_score(score: torch.nn.Module, query: Array, state: Array) -> float:
    w = weights_of(score)
    if isinstance(score, AdditiveScore):
        inner = np.tanh(w["query.weight"] @ query + w["key.weight"] @ state + w["key.bias"])
        return float(w["score.weight"][0] @ inner)
    if isinstance(score, GeneralScore):
        return float(query @ (w["key.weight"] @ state))
    return float(query @ state)


def numpy_weights(attention: Attention, query: Array, states: Array) -> Array:
    scores = np.array([numpy_score(attention.score, query, state) for state in states])
    w = weights_of(attention.span)
    if not w:
        e = np.exp(scores - scores.max())
        return e / e.sum()  # type: ignore[no-any-return]
    size = len(states)
    p = size / (1 + np.exp(-(w["position.weight"][0] @ np.tanh(w["hidden.weight"] @ query))))
    near = [abs(s - p) <= WINDOW for s in range(size)]
    e = np.where(near, np.exp(scores), 0)
    sigma = WINDOW / 2
    return e / e.sum() * np.exp(-((np.arange(size) - p) ** 2) / (2 * sigma**2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("span", ["global", "local_p"])
@pytest.mark.parametrize("kind", SCORED)
def test_matches_formula_written_in_numpy(kind: AttentionKind, span: SpanKind) -> None:
    attention = make(kind, span)
    assert isinstance(attention, Attention)
    source, queries = encoded(attention), torch.randn(2, 3, 4)
    context, weights = attention(queries, attention.remember(source), source.lengths)
    for row, length in enumerate(LENGTHS):
        for q in range(3):
            h = source.states[row, :length].double().numpy()
            expected = numpy_weights(attention, queries[row, q].double().numpy(), h)
            np.testing.assert_allclose(weights[row, q, :length].detach().numpy(), expected, atol=1e-6)
            assert not weights[row, q, length:].any()
            np.testing.assert_allclose(context[row, q].detach().numpy(), expected @ h, atol=1e-6)


def test_the_predicted_position_decides_what_is_seen() -> None:
    """The span is narrower than the source, or the test above would not tell it from global attention."""
    attention = make("luong_general", "local_p")
    source = encoded(attention)
    _, weights = attention(torch.randn(2, 3, 4), attention.remember(source), source.lengths)
    assert ((weights[0] > 0).sum(-1) <= 2 * WINDOW + 1).all()


@pytest.mark.parametrize("kind", SCORED)
def test_row_without_source_gives_even_weights_not_nan(kind: AttentionKind) -> None:
    attention = make(kind, "global")
    states = torch.randn(1, 3, attention.context_dim)
    nothing = Encoded(states, states[:, 0], torch.zeros(1, dtype=torch.int64))
    _, weights = attention(torch.randn(1, 1, 4), attention.remember(nothing), nothing.lengths)
    torch.testing.assert_close(weights, torch.full((1, 1, 3), 1 / 3))


@pytest.mark.parametrize("kind", [*SCORED, "none", "context"])
def test_memory_is_what_it_is_declared_to_be(kind: AttentionKind) -> None:
    reader = make(kind, "global")
    source = Encoded(torch.randn(2, 7, 6 if kind != "luong_dot" else 4), torch.randn(2, 6), torch.tensor(LENGTHS))
    found = [tuple(tensor.shape) for tensor in reader.remember(source)]
    assert found == [(2, *(7 if axis == "src" else axis for axis in axes)) for axes in reader.memory.values()]


def test_fixed_context_is_the_same_for_every_query() -> None:
    reader = make("context", "global")
    source = Encoded(torch.randn(2, 7, 6), torch.randn(2, 6), torch.tensor(LENGTHS))
    context, weights = reader(torch.randn(2, 3, 4), reader.remember(source), source.lengths)
    w = weights_of(reader)
    for row in range(2):
        expected = np.tanh(w["summary.weight"] @ source.final[row].double().numpy() + w["summary.bias"])
        for query in range(3):
            np.testing.assert_allclose(context[row, query].detach().numpy(), expected, atol=1e-6)
    assert weights is None
