"""Requests and answers as plain data, shared by the engine, the server and the client.

:class:`Options` and :class:`Sampling` are also the table of options: each field bears the name it has in the proto, and
its metadata says which values are valid and which command-line flag sets it. Conversion, validation and the commands
read it there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Bounds:
    """The values that an option may take.

    Attributes:
        low: The least value.
        high: The greatest value, or the name of the limit or option that gives it.
        exclusive: Whether ``low`` itself is out of bounds.
    """

    low: float
    high: float | str
    exclusive: bool = False


@dataclass(frozen=True)
class Flag:
    """The command-line flag that sets an option.

    Attributes:
        name: The flag itself, such as ``--beam``.
        kind: Type of its value.
        help: One line for ``--help``.
        metavar: Placeholder of its value in ``--help``.
    """

    name: str
    kind: type[int | float | StrEnum]
    help: str
    metavar: str | None = None


def _option(
    default: _Value, bounds: Bounds | None = None, flag: Flag | None = None, *, of_request: bool = False
) -> _Value:
    """Declare an option; one ``of_request`` is a field of the request in the proto, not of its options."""
    return field(default=default, metadata={"bounds": bounds, "flag": flag, "of_request": of_request})


class LongInput(StrEnum):
    """Treatment of a text with more tokens than the model takes."""

    REJECT = "reject"
    SPLIT = "split"
    TRUNCATE = "truncate"


class Segmentation(StrEnum):
    """Pieces in which a text is translated."""

    SENTENCES = "sentences"
    NONE = "none"


class EarlyStopping(StrEnum):
    """When a beam search stops."""

    ON = "on"  # as many hypotheses as the beam holds have ended
    BEST = "best"  # or sooner: what is unfinished, at its present length, scores no better than the best that ended
    HEURISTIC = "heuristic"  # as many have ended, and it scores no better than any of the best of them
    NEVER = "never"  # the same with the best score that it could ever have


class MimeType(StrEnum):
    """Type of the texts of a request."""

    PLAIN = "text/plain"
    HTML = "text/html"
    XML = "text/xml"


class QualityFlag(StrEnum):
    """A sign that a translation may be wrong; UNKNOWN is one that is newer than this client."""

    SPAN_APPENDED = "span_appended"
    NUMBERS_DIFFER = "numbers_differ"
    REPETITION = "repetition"
    COPIED_SOURCE = "copied_source"
    LENGTH_RATIO = "length_ratio"
    RETRIED = "retried"
    UNKNOWN = "unknown"


class FinishReason(StrEnum):
    """The reason why a hypothesis ended; UNKNOWN is one that is newer than this client."""

    EOS = "eos"
    LENGTH = "length"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sampling:
    """Random choice of each token instead of search; needs ``beam_size`` 1.

    Attributes:
        temperature: Divides log-probabilities.
        top_k: Only the k most probable tokens are drawn; 0 admits the whole vocabulary.
        top_p: Only the smallest set of tokens whose probability reaches p is drawn.
        seed: The same seed, options and text give the same answer; None lets the server choose one.
    """

    temperature: float = _option(1.0, Bounds(0, 100, exclusive=True))
    top_k: int = _option(0, Bounds(0, "vocabulary_size"))
    top_p: float = _option(1.0, Bounds(0, 1, exclusive=True))
    seed: int | None = _option(None, Bounds(-(2**63), 2**63 - 1))


@dataclass(frozen=True)
class GlossaryEntry:
    """A term and its translation, of one word or several.

    Attributes:
        source: The term; without capitals it is found whatever its case, with capitals only as it is spelt.
        target: What the translation must contain.
    """

    source: str
    target: str


@dataclass(frozen=True)
class TermUse:
    """What became of a term of the glossary that occurs in a text.

    Attributes:
        entry: Its entry of ``Options.glossary``, from 0.
        wanted: How often the text has the term.
        used: How often the best hypothesis has its translation.
    """

    entry: int
    wanted: int
    used: int


@dataclass(frozen=True)
class Options:
    """How to translate; None takes the default of the model or the server.

    Attributes:
        beam_size: Hypotheses kept at each step; 1 is greedy.
        n_best: Hypotheses returned; at most the beam size.
        length_penalty: alpha in score = sum of log p / length ** alpha.
        early_stopping: When a beam search stops.
        min_length: Target tokens before the translation may end.
        max_length: Target tokens at most.
        no_repeat_ngram_size: No run of this many tokens occurs twice; 0 is off.
        repetition_penalty: Log-probabilities of tokens already produced are multiplied by this; 1 is off.
        diversity_penalty: Makes ``n_best`` alternatives differ: each is searched for by itself, and pays so many nats
            for each token that others before it have in the same place; 0 is off.
        target_prefixes: Empty, or one beginning, possibly empty, for each text.
        sampling: Random choice instead of search.
        segmentation: Pieces in which a text is translated; None is sentences, or none if ``long_input`` is given.
        long_input: Treatment of a text with more tokens than the model takes; None splits sentences further, and
            rejects without segmentation.
        protect_spans: Addresses, paths, placeholders, code, emoji and unknown characters come back as they are; numbers
            with thousands separators as the target language writes them.
        adapt_case: A text in capitals or title case is lowered for the model, and its translation raised.
        mime_type: Type of the texts.
        protected_terms: Words that come back as they are wherever a text has them.
        retry_repetition: A translation that repeats itself is made anew from there, under a repetition penalty.
        priority: How urgent it is; more goes earlier.
        glossary: Terms and how to translate them, wherever they occur.
        tokens: Return the target tokens with their log-probabilities.
        alignments: Return word alignments.
        attention: Return what the model attends to, of the best hypothesis.
    """

    beam_size: int | None = _option(
        None, Bounds(1, "max_beam_size"), Flag("--beam", int, "beam size; 1 is greedy", "N")
    )
    n_best: int = _option(
        1, Bounds(1, "beam_size"), Flag("--n-best", int, "translations of each text, one a line", "N")
    )
    length_penalty: float | None = _option(
        None, Bounds(0, 10), Flag("--length-penalty", float, "score = sum of log p / length^ALPHA", "ALPHA")
    )
    early_stopping: EarlyStopping | None = _option(  # noqa: RUF009 (it is a field)
        None, flag=Flag("--early-stopping", EarlyStopping, "when a beam search stops (default: what the model has)")
    )
    min_length: int | None = _option(None, Bounds(0, "max_length"))
    max_length: int | None = _option(
        None, Bounds(1, "max_target_tokens"), Flag("--max-length", int, "target tokens at most", "N")
    )
    no_repeat_ngram_size: int | None = _option(None, Bounds(0, "max_target_tokens"))
    repetition_penalty: float | None = _option(None, Bounds(0, 100, exclusive=True))
    diversity_penalty: float = _option(
        0.0, Bounds(0, 100), Flag("--diversity-penalty", float, "makes alternatives differ; try 1", "NATS")
    )
    target_prefixes: tuple[str, ...] = ()
    sampling: Sampling | None = None
    segmentation: Segmentation | None = _option(  # noqa: RUF009 (it is a field)
        None,
        flag=Flag("--segmentation", Segmentation, "pieces to translate: by default sentences, none with --long-input"),
    )
    long_input: LongInput | None = _option(  # noqa: RUF009 (it is a field)
        None, flag=Flag("--long-input", LongInput, "what to do with a text of more tokens than the model takes")
    )
    protect_spans: bool = True
    adapt_case: bool = True
    mime_type: MimeType = _option(  # noqa: RUF009 (it is a field)
        MimeType.PLAIN, flag=Flag("--mime-type", MimeType, "type of the texts; tags of markup are kept")
    )
    protected_terms: tuple[str, ...] = ()
    retry_repetition: bool = True
    priority: int = _option(
        0, Bounds(-2, 2), Flag("--priority", int, "how urgent, from -2 (bulk) to 2", "N"), of_request=True
    )
    glossary: tuple[GlossaryEntry, ...] = ()
    tokens: bool = False
    alignments: bool = False
    attention: bool = False


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
class Piece:
    """A token as the vocabulary spells it, and where it is; the range is empty for one that stands for no character."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class AttentionMatrix:
    """What a model attends to in a part of a text while it translates that.

    Attributes:
        source: Tokens of the part as the model reads them, with those that it needs besides.
        target: Tokens of its translation.
        weights: That of ``target[t]`` to ``source[s]`` is ``weights[t * len(source) + s]``; a target token's sum to 1.
    """

    source: tuple[Piece, ...]
    target: tuple[Piece, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Hypothesis:
    """One possible translation of one text.

    Attributes:
        text: The translation.
        score: Sum of token log-probabilities / length ** length_penalty; of a split text, the sum over its parts.
        mean_log_prob: Mean log-probability per token, end tokens included, in nats.
        tokens: Empty unless asked for.
        alignment: Empty unless asked for.
        finish_reason: LENGTH if the length limit ended it, or any part of it: it is probably not complete.
        attention: Of each part; empty unless asked for, and of all but the best.
    """

    text: str
    score: float
    mean_log_prob: float
    tokens: tuple[Token, ...]
    alignment: tuple[AlignmentLink, ...]
    finish_reason: FinishReason
    attention: tuple[AttentionMatrix, ...] = ()


@dataclass(frozen=True)
class Translation:
    """The answer to one text.

    Attributes:
        hypotheses: Best first, at least one, no two with the same text; fewer than n_best if the search ended with
            fewer different texts, and one for a blank text and for a text translated in several parts.
        source_truncated: The text was cut to the model's limit, as TRUNCATE permits.
        parts: Parts the text was translated in; 0 for a text without language, such as a blank one or a number.
        flags: Signs that the best hypothesis may be wrong.
        terms: Those of the glossary that occur in the text, in the order of their entries.
    """

    hypotheses: tuple[Hypothesis, ...]
    source_truncated: bool
    parts: int
    flags: tuple[QualityFlag, ...] = ()
    terms: tuple[TermUse, ...] = ()

    @property
    def text(self) -> str:
        """Text of the best hypothesis."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """Score of the best hypothesis."""
        return self.hypotheses[0].score


@dataclass(frozen=True)
class TextDelta:
    """More of a translation that streams: ``text`` follows what came before for ``texts[index]``."""

    index: int
    text: str


@dataclass(frozen=True)
class Result:
    """The answer to a request.

    Attributes:
        translations: ``translations[i]`` is the answer to ``texts[i]``.
        model: Name of the model that translated.
        version: Its version.
        source_tokens: Tokens encoded.
        target_tokens: Tokens of the best hypotheses.
        queue_seconds: From acceptance until the last sentence began to be computed.
        compute_seconds: From the beginning of the first sentence's computation until the end of the last.
        request_id: Name of the request in the server's log.
    """

    translations: tuple[Translation, ...]
    model: str
    version: int
    source_tokens: int
    target_tokens: int
    queue_seconds: float
    compute_seconds: float
    request_id: str
