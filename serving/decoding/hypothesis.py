"""One finished translation, as token ids."""

from __future__ import annotations

from dataclasses import dataclass

from serving.messages import FinishReason


@dataclass(frozen=True)
class FinishedHypothesis:
    """A hypothesis of one sentence that has ended.

    Attributes:
        tokens: Target token ids without the end token.
        log_probs: Log-probability of each token, in nats; one more entry for the end token if it was reached.
        alignment: For each token, the source position (0-based, the end token included) it attends to most.
        score: Sum of log-probabilities / length ** length_penalty.
        finish_reason: Whether the end token or the length limit ended it.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    alignment: tuple[int, ...]
    score: float
    finish_reason: FinishReason
