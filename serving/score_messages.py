"""Requests for scores of given translations, and answers to them, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from serving.messages import Token


@dataclass(frozen=True)
class ScorePair:
    """A text and a translation of it that is to be scored.

    Attributes:
        source: The text.
        target: The translation; leave it empty where ``tokens`` are given.
        tokens: The translation in tokens as ``Token.text`` spells them, by which a hypothesis is scored exactly.
        unfinished: The translation goes on: its end token is not scored.
    """

    source: str
    target: str = ""
    tokens: tuple[str, ...] = ()
    unfinished: bool = False


@dataclass(frozen=True)
class PairScore:
    """How probable the model finds a translation; all zero for a source without language.

    Attributes:
        score: Sum of token log-probabilities / length ** length_penalty.
        mean_log_prob: Mean log-probability per token, the end token included, in nats.
        tokens: Empty unless asked for.
    """

    score: float = 0.0
    mean_log_prob: float = 0.0
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class ScoreResult:
    """The answer to a request for scores.

    Attributes:
        scores: ``scores[i]`` is the answer to ``pairs[i]``.
        model: Name of the model that scored.
        version: Its version.
        source_tokens: Tokens encoded.
        target_tokens: Tokens scored.
        queue_seconds: From acceptance until the last sentence began to be computed.
        compute_seconds: From the beginning of the first sentence's computation until the end of the last.
        request_id: Name of the request in the server's log.
    """

    scores: tuple[PairScore, ...]
    model: str
    version: int
    source_tokens: int
    target_tokens: int
    queue_seconds: float
    compute_seconds: float
    request_id: str
