"""Translation requests and answers as the engine sees them: plain text, no transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from serving.decoding.hypothesis import FinishReason
from serving.decoding.options import Sampling


class LongInputPolicy(StrEnum):
    """What happens to a text of more tokens than the model takes."""

    REJECT = "reject"
    SPLIT = "split"
    TRUNCATE = "truncate"


@dataclass(frozen=True)
class TranslationOptions:
    """A request's options; ``None`` takes the model's default. Validated by :class:`Translator`.

    ``prefixes`` is empty or has one target prefix, possibly empty, for each text.
    """

    beam_size: int | None = None
    n_best: int = 1
    length_penalty: float | None = None
    min_length: int = 0
    max_length: int | None = None
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    prefixes: tuple[str, ...] = ()
    sampling: Sampling | None = None
    long_input: LongInputPolicy = LongInputPolicy.REJECT
    alignments: bool = False


@dataclass(frozen=True)
class TranslationRequest:
    """N texts to translate with the same options.

    Attributes:
        texts: In the model's source language.
        options: See :class:`TranslationOptions`.
        deadline: ``time.monotonic()`` value after which nobody waits for the answer, or None.
        priority: Higher goes first.
        request_id: For the log.
    """

    texts: tuple[str, ...]
    options: TranslationOptions = field(default_factory=TranslationOptions)
    deadline: float | None = None
    priority: int = 0
    request_id: str = ""


@dataclass(frozen=True)
class TranslatedToken:
    """One target token with its log-probability in nats."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class AlignmentLink:
    """A target span and the source span it attends to; character offsets, end exclusive, into the texts as given."""

    source_start: int
    source_end: int
    target_start: int
    target_end: int


@dataclass(frozen=True)
class TranslationHypothesis:
    """One translation of one text.

    Attributes:
        text: The translation.
        score: Sum of token log-probabilities / length ** length_penalty; of a split text, the sum over its parts.
        mean_log_prob: Mean log-probability a token, end tokens included, in nats.
        tokens: With their log-probabilities.
        alignment: Word alignment links if they were asked for.
        finish_reason: LENGTH if any part reached the length limit.
    """

    text: str
    score: float
    mean_log_prob: float
    tokens: tuple[TranslatedToken, ...]
    alignment: tuple[AlignmentLink, ...]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Translation:
    """The answer to one text.

    Attributes:
        hypotheses: Best first, no two with the same text. A non-blank text decoded in one part has n_best of them
            unless the search ended with fewer different texts.
        source_truncated: The text was cut to the model's limit, as TRUNCATE permits.
        parts: Parts the text was decoded in; 0 for a blank text.
    """

    hypotheses: tuple[TranslationHypothesis, ...]
    source_truncated: bool = False
    parts: int = 1


@dataclass(frozen=True)
class TranslationResult:
    """The answer to a request: ``translations[i]`` belongs to ``texts[i]``.

    Attributes:
        translations: One for each text.
        source_tokens: Tokens encoded.
        target_tokens: Tokens of the best hypotheses.
        queue_seconds: From acceptance until the last part was admitted to a slot.
        compute_seconds: From the first admission until the last part finished.
    """

    translations: tuple[Translation, ...]
    source_tokens: int
    target_tokens: int
    queue_seconds: float
    compute_seconds: float
