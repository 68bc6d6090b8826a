"""What a caller passes and gets: plain frozen dataclasses. The proto says what each field means in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class LongInput(StrEnum):
    """What happens to a text of more tokens than the model takes."""

    REJECT = "reject"
    SPLIT = "split"
    TRUNCATE = "truncate"


class FinishReason(StrEnum):
    """Why a hypothesis ended; UNKNOWN is a reason newer than this client."""

    EOS = "eos"
    LENGTH = "length"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sampling:
    """Random choice of each token instead of search; needs ``beam_size`` 1. None and 0 take the server's default."""

    temperature: float | None = None
    top_k: int = 0
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Options:
    """How to translate; None takes the model's default.

    Attributes:
        beam_size: Hypotheses kept at each step; 1 is greedy.
        n_best: Hypotheses returned; at most the beam size.
        length_penalty: alpha in score = sum of log p / length ** alpha.
        min_length: Target tokens before the translation may end.
        max_length: Target tokens at most.
        no_repeat_ngram_size: No run of this many tokens occurs twice; 0 is off.
        repetition_penalty: Log-probabilities of tokens already produced are multiplied by this; 1 is off.
        target_prefixes: Empty, or one beginning, possibly empty, for each text.
        sampling: Random choice instead of search.
        long_input: What happens to a text of more tokens than the model takes.
        tokens: Return the target tokens with their log-probabilities.
        alignments: Return word alignments.
    """

    beam_size: int | None = None
    n_best: int = 1
    length_penalty: float | None = None
    min_length: int = 0
    max_length: int | None = None
    no_repeat_ngram_size: int = 0
    repetition_penalty: float | None = None
    target_prefixes: tuple[str, ...] = ()
    sampling: Sampling | None = None
    long_input: LongInput = LongInput.REJECT
    tokens: bool = False
    alignments: bool = False


@dataclass(frozen=True)
class Token:
    """One target token with its natural log-probability."""

    text: str
    log_prob: float


@dataclass(frozen=True)
class AlignmentLink:
    """A source span and the target span that attends to it most; offsets in code points, ends exclusive."""

    source_start: int
    source_end: int
    target_start: int
    target_end: int


@dataclass(frozen=True)
class Hypothesis:
    """One possible translation of one text.

    Attributes:
        text: The translation.
        score: Sum of token log-probabilities / length ** length_penalty; of a split text, the sum over its parts.
        mean_log_prob: Mean log-probability a token, end tokens included, in nats.
        tokens: Empty unless asked for.
        alignment: Empty unless asked for.
        finish_reason: LENGTH if the length limit ended it: it is probably not complete.
    """

    text: str
    score: float
    mean_log_prob: float
    tokens: tuple[Token, ...]
    alignment: tuple[AlignmentLink, ...]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Translation:
    """The answer to one text.

    Attributes:
        hypotheses: Best first, at least one.
        source_truncated: The text was cut to the model's limit, as TRUNCATE permits.
        parts: Parts the text was translated in; 0 for a blank text.
    """

    hypotheses: tuple[Hypothesis, ...]
    source_truncated: bool
    parts: int

    @property
    def text(self) -> str:
        """Text of the best hypothesis."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """Score of the best hypothesis."""
        return self.hypotheses[0].score


@dataclass(frozen=True)
class Result:
    """The answer to a call.

    Attributes:
        translations: ``translations[i]`` is the answer to ``texts[i]``.
        model: Name of the model that translated.
        version: Its version.
        source_tokens: Tokens encoded.
        target_tokens: Tokens of the best hypotheses.
        queue_seconds: From acceptance until the last sentence began to be computed.
        compute_seconds: From the beginning of the first sentence's computation until the end of the last.
        request_id: What the server's log calls this call.
    """

    translations: tuple[Translation, ...]
    model: str
    version: int
    source_tokens: int
    target_tokens: int
    queue_seconds: float
    compute_seconds: float
    request_id: str


@dataclass(frozen=True)
class ModelLimits:
    """What no request may exceed."""

    max_source_tokens: int
    max_target_tokens: int
    max_beam_size: int
    max_contents: int


@dataclass(frozen=True)
class ModelDefaults:
    """What a request gets that leaves an option unset."""

    beam_size: int
    length_penalty: float


@dataclass(frozen=True)
class Verification:
    """How the exported graphs compared with the model they were exported from, measured at export."""

    created: str
    max_abs_log_prob_difference: float
    sentences: int
    greedy_equal_ratio: float
    beam_equal_ratio: float
    beam_size: int
    reference_bleu: float | None
    export_bleu: float | None
    bleu_signature: str


@dataclass(frozen=True)
class Model:
    """A model that is served.

    Attributes:
        name: What ``model`` in a call names.
        version: Its version; a call that names none gets the newest.
        is_default: A call that names no model gets this one.
        source_language: BCP-47 tag.
        target_language: BCP-47 tag.
        family: ``transformer`` or ``rnn``.
        sizes: Sizes and choices by name, each spelt as JSON.
        limits: What no request may exceed.
        defaults: What unset options mean.
        precision: ``fp32``, ``fp16`` or ``int8``.
        device: Where it really runs: ``cpu`` or ``cuda``.
        verification: How the graphs compared with their original.
    """

    name: str
    version: int
    is_default: bool
    source_language: str
    target_language: str
    family: str
    sizes: Mapping[str, str]
    limits: ModelLimits
    defaults: ModelDefaults
    precision: str
    device: str
    verification: Verification
