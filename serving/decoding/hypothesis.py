"""Finished translation as token ids."""

from __future__ import annotations

from dataclasses import dataclass

from serving.messages import FinishReason


@dataclass(frozen=True)
class FinishedHypothesis:
    """Hypothesis of one sentence that has ended.

    Attributes:
        tokens: Target token ids without the end token.
        log_probs: Log-probability of each token, in nats; and of the end token if it was reached.
        alignment: Source position (0-based, end token included) that each token attends to most.
        score: Sum of log-probabilities / length ** length_penalty.
        finish_reason: End token or length limit.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    alignment: tuple[int, ...]
    score: float
    finish_reason: FinishReason
