"""A recurrent decoder's view of the source at each step: by attention, as one fixed vector, or nothing.

An attention is a score, which says how well a decoder query matches each source position, and a span, which turns the
scores into weights; the context is the weighted mean of the encoder states. Several queries may share one source (the
hypotheses of a beam, or all steps of a known target), so queries have an axis of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.models.masks import length_mask

AttentionKind = Literal["none", "context", "bahdanau", "luong_dot", "luong_general", "luong_concat"]
SpanKind = Literal["global", "local_p"]

# Finite, so that a row without any source token gives even weights rather than NaN.
MASKED = -1e9


@dataclass(frozen=True)
class Encoded:
    """Output of the encoder.

    Attributes:
        states: Shape (row, src, state_dim), zero at padding.
        final: The top layer's last hidden state, directions side by side, shape (row, state_dim).
        lengths: Shape (row,), int64.
    """

    states: Tensor
    final: Tensor
    lengths: Tensor


class SourceReader(nn.Module):
    """Base of everything that gives a decoder step its context.

    Attributes:
        context_dim: Width of the context.
        memory: Name and shape behind the row axis of each tensor that ``remember`` returns; "src" is the source's axis.
    """

    context_dim: int
    memory: dict[str, tuple[str | int, ...]]

    def remember(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """Do once for each source what need not be done at each step; shapes (row, ...) as ``memory`` says."""
        raise NotImplementedError

    def forward(self, queries: Tensor, memory: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read the source.

        Args:
            queries: Shape (row, query, query_dim).
            memory: What ``remember`` returned.
            lengths: Of the sources, shape (row,), int64.

        Returns:
            Context of shape (row, query, context_dim), and the attention weights of shape (row, query, src), or None
            where there is no attention.
        """
        raise NotImplementedError


class NoContext(SourceReader):
    """The decoder's first state is all it knows of the source (Sutskever, Vinyals and Le 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.context_dim, self.memory = 0, {}

    def remember(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """Nothing, whatever the shapes of the sources."""
        return ()

    def forward(self, queries: Tensor, memory: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, None]:
        """Return a context without dimensions, shape (row, query, 0)."""
        return queries[..., :0], None


class FixedContext(SourceReader):
    """The same vector c = tanh(V h) of the encoder's last state h at every step (Cho et al. 2014, appendix A.1)."""

    def __init__(self, state_dim: int, context_dim: int) -> None:
        super().__init__()
        self.summary = nn.Linear(state_dim, context_dim)
        self.context_dim, self.memory = context_dim, {"context": (context_dim,)}

    def remember(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """Return the fixed vector, shape (row, context_dim)."""
        return (torch.tanh(self.summary(encoded.final)),)

    def forward(self, queries: Tensor, memory: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, None]:
        """Return the fixed vector for each query, shape (row, query, context_dim)."""
        return memory[0].unsqueeze(1).expand(-1, queries.shape[1], -1), None


class Score(nn.Module):
    """Base: how well each query matches each source position.

    Attributes:
        key_dim: Width of the keys, or None where they are the encoder states themselves.
    """

    key_dim: int | None

    def project_keys(self, states: Tensor) -> Tensor:
        """Prepare encoder states, shape (row, src, state_dim) to (row, src, key_dim)."""
        raise NotImplementedError

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score shape (row, query, query_dim) against keys (row, src, key_dim): shape (row, query, src)."""
        return queries @ keys.transpose(1, 2)


class AdditiveScore(Score):
    """v^T tanh(W q + U h + b): Bahdanau, Cho and Bengio (2015), appendix A.1.2; Luong et al. (2015) call it concat."""

    def __init__(self, query_dim: int, state_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, attention_dim, bias=False)
        self.key = nn.Linear(state_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.key_dim = attention_dim

    def project_keys(self, states: Tensor) -> Tensor:
        """U h + b, shape (row, src, state_dim) to (row, src, attention_dim)."""
        return self.key(states)  # type: ignore[no-any-return]

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """v^T tanh(W q + key), shape (row, query, src)."""
        mixed = torch.tanh(self.query(queries)[:, :, None, :] + keys[:, None, :, :])
        return self.score(mixed).squeeze(-1)  # type: ignore[no-any-return]


class DotScore(Score):
    """q^T h, without weights (Luong, Pham and Manning 2015, equation 8, "dot")."""

    def __init__(self, query_dim: int, state_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.key_dim = None

    def project_keys(self, states: Tensor) -> Tensor:
        """Return the states themselves, shape (row, src, state_dim)."""
        return states


class GeneralScore(Score):
    """q^T W h (Luong, Pham and Manning 2015, equation 8, "general")."""

    def __init__(self, query_dim: int, state_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(state_dim, query_dim, bias=False)
        self.key_dim = query_dim

    def project_keys(self, states: Tensor) -> Tensor:
        """W h, shape (row, src, state_dim) to (row, src, query_dim)."""
        return self.key(states)  # type: ignore[no-any-return]


SCORES: dict[str, Callable[[int, int, int], Score]] = {
    "bahdanau": AdditiveScore,
    "luong_dot": DotScore,
    "luong_general": GeneralScore,
    "luong_concat": AdditiveScore,
}


class GlobalSpan(nn.Module):
    """Attend to the whole source: the softmax of all scores."""

    def forward(self, scores: Tensor, queries: Tensor, lengths: Tensor) -> Tensor:
        """Scores to weights, both of shape (row, query, src)."""
        mask = length_mask(lengths, scores.shape[-1]).unsqueeze(1)
        return scores.masked_fill(~mask, MASKED).softmax(dim=-1)


class PredictedSpan(nn.Module):
    """Attend around a predicted position (Luong, Pham and Manning 2015, section 3.2, "local-p").

    The position is p = S sigmoid(v^T tanh(W q)) in a source of S tokens (equation 9). Within ``window`` positions of p
    the weights are the softmax of the scores times exp(-(s - p)^2 / (2 sigma^2)), sigma = window / 2 (equation 10);
    so they sum to less than 1.
    """

    def __init__(self, query_dim: int, window: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(query_dim, query_dim, bias=False)
        self.position = nn.Linear(query_dim, 1, bias=False)
        self.window = window

    def forward(self, scores: Tensor, queries: Tensor, lengths: Tensor) -> Tensor:
        """Scores to weights, both of shape (row, query, src)."""
        # In float32: half precision cannot tell the positions of a long source apart.
        where = torch.sigmoid(self.position(torch.tanh(self.hidden(queries))).float()) * lengths[:, None, None]
        distance = torch.arange(scores.shape[-1], device=scores.device) - where
        mask = length_mask(lengths, scores.shape[-1]).unsqueeze(1) & (distance.abs() <= self.window)
        weights = scores.masked_fill(~mask, MASKED).softmax(dim=-1)
        return weights * torch.exp(distance.square() * (-2.0 / self.window**2)).to(weights.dtype)


class Attention(SourceReader):
    """A weighted mean of the encoder states; the score and the span say how states are weighted."""

    def __init__(self, score: Score, span: nn.Module, state_dim: int) -> None:
        super().__init__()
        self.score, self.span = score, span
        self.context_dim = state_dim
        self.memory = {"encoder_states": ("src", state_dim)}
        if score.key_dim is not None:
            self.memory["attention_keys"] = ("src", score.key_dim)

    def remember(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """Return encoder states (row, src, state_dim) and, where they differ, keys (row, src, key_dim)."""
        return (encoded.states, self.score.project_keys(encoded.states))[: len(self.memory)]

    def forward(self, queries: Tensor, memory: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Context of shape (row, query, state_dim), and the weights of shape (row, query, src)."""
        states, keys = memory[0], memory[-1]
        weights = self.span(self.score(queries, keys), queries, lengths)
        return weights @ states, weights


def build_reader(
    kind: AttentionKind, span: SpanKind, *, query_dim: int, state_dim: int, attention_dim: int, window: int
) -> SourceReader:
    """Build what reads the source.

    Args:
        kind: Which score, or how to do without one.
        span: Which positions may be attended to.
        query_dim: Width of decoder states, and of a fixed context.
        state_dim: Width of encoder states.
        attention_dim: Inner width of an additive score.
        window: Positions on either side of the one that ``local_p`` predicts.
    """
    if kind == "none":
        return NoContext()
    if kind == "context":
        return FixedContext(state_dim, query_dim)
    score = SCORES[kind](query_dim, state_dim, attention_dim)
    return Attention(score, GlobalSpan() if span == "global" else PredictedSpan(query_dim, window), state_dim)
