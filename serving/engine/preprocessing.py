"""From texts to sentences: check, split and tokenise a request."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np

from serving.bundle.manifest import LanguagePair, Manifest
from serving.bundle.tokenizer import EncodedSource, SubwordTokenizer
from serving.decoding.options import DecodingOptions
from serving.decoding.terms import Terms, WordBorders
from serving.engine.request import TranslationRequest
from serving.engine.submission import Sentence
from serving.engine.validation import ServingLimits, beam_size, prefix_violations, request_violations
from serving.errors import FieldViolation, InvalidRequest
from serving.messages import LongInput, Options, Segmentation
from serving.text.casing import Case
from serving.text.glossary import TermFinder, spellings_in_case
from serving.text.markup.document import Markup
from serving.text.markup.mime_types import read_markup
from serving.text.markup.tokens import MalformedMarkup
from serving.text.protection import term_pattern
from serving.text.reading import Reading, ReadPart, in_sentence_case
from serving.text.segmentation import Part, lines, sentences, split
from serving.text.words import UNSPACED

_MOST_TERMS = 16  # of one part
_TERM_BEAM = 12  # at least, for a part with terms
_SPARE_TOKENS = 16  # of a translation that is not given a max_length, beyond twice its source


@dataclass(frozen=True)
class PreparedText:
    """One text of a request, in the parts it is decoded in; a text without language has none.

    Attributes:
        reading: The text as given, or the text in the markup that was given, and as the model reads it.
        parts: The parts of it that are translated.
        sources: The same as tokens.
        end: Where the text was cut, which is its own end unless it was too long under TRUNCATE.
        markup: The markup, unless the text is plain.
        terms: How often each part has terms of the glossary, by entry; empty without a glossary.
    """

    reading: Reading
    parts: tuple[ReadPart, ...]
    sources: tuple[EncodedSource, ...]
    end: int
    markup: Markup | None = None
    terms: tuple[Counter[int], ...] = ()

    @property
    def truncated(self) -> bool:
        """Whether some of it is not translated."""
        return self.end < len(self.reading.given) or any(source.dropped for source in self.sources)


@dataclass(frozen=True)
class Prepared:
    """A request, ready to be decoded: ``sentences`` are the parts of all texts, in order."""

    languages: LanguagePair
    texts: tuple[PreparedText, ...]
    sentences: tuple[Sentence, ...]
    glossary: TermFinder | None = None


def default_max_length(source_tokens: int, min_length: int, prefix_tokens: int, limit: int) -> int:
    """Return the target tokens of a translation whose request gives no limit: twice its source and some more.

    A model that has lost its way repeats itself until something stops it; the model's own limit would let it hold its
    slot for many times the work of the sentence. ``finish_reason`` LENGTH tells the caller that the limit was reached.
    """
    return min(limit, max(2 * source_tokens + _SPARE_TOKENS + prefix_tokens, min_length))


def prepare(
    request: TranslationRequest, manifest: Manifest, tokenizer: SubwordTokenizer, limits: ServingLimits
) -> Prepared:
    """Check a request and turn it into sentences. A target prefix belongs to the first part of its text.

    Raises:
        InvalidRequest: With every bad field; texts are looked at unless there is too much of them.
    """
    options = request.options
    violations = request_violations(request, manifest, limits)
    if any(found.field == "contents" for found in violations):
        raise InvalidRequest(violations)
    known = manifest.languages
    languages = known.pair(request.source_language, request.target_language) or known.first
    prefixes = tuple(tokenizer.encode_prefix(prefix) for prefix in options.target_prefixes)
    violations += prefix_violations(prefixes, options, manifest, limits)
    texts, terms = [], term_pattern(options.protected_terms)
    for index, text in enumerate(request.texts):
        plan = replace(options, adapt_case=False) if any(prefixes[index : index + 1]) else options
        try:
            reading, markup = _read(text, plan, tokenizer, terms, languages)
        except MalformedMarkup as error:
            violations.append(FieldViolation(f"contents[{index}]", str(error)))
            continue
        prepared = prepare_text(reading, markup, plan, manifest, tokenizer, languages)
        if problem := _too_long(prepared, options, manifest, tokenizer, limits):
            violations.append(FieldViolation(f"contents[{index}]", problem))
        texts.append(prepared)
    if violations:
        raise InvalidRequest(violations)
    common, most = _common_options(options, manifest, limits), manifest.limits.max_target_tokens
    glossary = TermFinder(options.glossary) if options.glossary else None
    if glossary:
        texts = [_with_terms(text, glossary) for text in texts]
    sentences = []
    for index, prepared in enumerate(texts):
        prefix = prefixes[index] if prefixes else ()
        for place, source in enumerate(prepared.sources):
            own_prefix = prefix if place == 0 else ()
            # Alternatives of parts do not combine into alternatives of a text. Hypotheses may spell the same text, so
            # that those beyond n_best are needed to find n_best texts that differ.
            alternatives = options.n_best if len(prepared.parts) == 1 else 1
            groups = alternatives if options.diversity_penalty else 1
            decoding = replace(
                common,
                beam_size=groups * common.beam_size,
                groups=groups,
                n_best=2 * groups * common.beam_size if alternatives > 1 else 1,
                max_length=options.max_length
                or default_max_length(source.size, common.min_length, len(own_prefix), most),
                prefix=own_prefix,
                start=languages.before_target,
            )
            if prepared.terms and prepared.terms[place]:
                decoding = _constrained(decoding, prepared.terms[place], options, tokenizer, limits)
            sentences.append(Sentence(source.ids, decoding, request.deadline, options.priority, request.request_id))
    return Prepared(languages, tuple(texts), tuple(sentences), glossary)


def _with_terms(text: PreparedText, glossary: TermFinder) -> PreparedText:
    """Find the terms of each part in what the model reads of it, so that none is within a protected span."""
    found = (glossary.found(part.text, any_case=part.case is not Case.SENTENCE) for part in text.parts)
    return replace(text, terms=tuple(found))


@cache
def _word_borders(tokenizer: SubwordTokenizer) -> WordBorders:
    pieces = tokenizer.target_pieces
    return WordBorders(
        joins=np.array([piece[:1].isalnum() and not UNSPACED.match(piece) for piece in pieces], dtype=bool),
        ends=np.array([not piece[-1:].isalnum() or bool(UNSPACED.match(piece[-1:])) for piece in pieces], dtype=bool),
    )


def _constrained(
    decoding: DecodingOptions,
    found: Counter[int],
    options: Options,
    tokenizer: SubwordTokenizer,
    limits: ServingLimits,
) -> DecodingOptions:
    """Make a sentence's translation contain the target terms of what it has of the glossary, as far as they fit."""
    spellings, wanted = list[tuple[tuple[int, ...], ...]](), list[int]()
    for entry in found:
        ways = {
            tokens for way in spellings_in_case(options.glossary[entry].target) for tokens in tokenizer.spellings(way)
        }
        if ways and len(wanted) < _MOST_TERMS:
            spellings.append(tuple(sorted(ways)))
            wanted.append(1)
    if not wanted:
        return decoding
    # Where beams are few, none waits until a term is in its place.
    wider = min(max(decoding.beam_size, _TERM_BEAM), limits.max_beam_size)
    return replace(
        decoding,
        terms=Terms.of(spellings, wanted, _word_borders(tokenizer)),
        beam_size=wider,
        enough=options.n_best,
    )


def _segmentation(options: Options) -> Segmentation:
    if options.segmentation is not None:
        return options.segmentation
    return Segmentation.SENTENCES if options.long_input is None else Segmentation.NONE


def _policy(options: Options) -> LongInput:
    if options.long_input is not None:
        return options.long_input
    return LongInput.SPLIT if _segmentation(options) is Segmentation.SENTENCES else LongInput.REJECT


def _read(
    text: str,
    options: Options,
    tokenizer: SubwordTokenizer,
    terms: re.Pattern[str] | None,
    languages: LanguagePair,
) -> tuple[Reading, Markup | None]:
    markup = read_markup(text, options.mime_type)
    given = markup.text if markup else text
    marked = markup.signs if markup else []
    if terms:
        marked += [match.span() for match in terms.finditer(given)]
    pair = (languages.source, languages.target)
    return Reading(given, tokenizer.unknown, protect=options.protect_spans, marked=marked, languages=pair), markup


def prepare_text(
    reading: Reading,
    markup: Markup | None,
    options: Options,
    manifest: Manifest,
    tokenizer: SubwordTokenizer,
    languages: LanguagePair,
) -> PreparedText:
    """Split a text into parts as its options ask, each tokenised."""
    limit, policy, language = manifest.limits.max_source_tokens, _policy(options), languages.source
    read, end = reading.text, len(reading.given)
    by_sentence = _segmentation(options) is Segmentation.SENTENCES
    pieces: Iterable[Part]
    if by_sentence or (markup and policy is not LongInput.SPLIT):
        if policy is LongInput.TRUNCATE and len(spans := tokenizer.spans(read)) > limit:
            read = read[: spans[limit - 1][1]]
            end = reading.edits.before(0, len(read))[1]
        # Each line of markup is a block of its own.
        cut = sentences(read, language) if by_sentence else lines(read)
        found = (reading.language(piece.start, piece.end) for piece in cut)
        pieces = [piece for piece in found if piece]
    elif policy is LongInput.SPLIT:
        # A text that fits is split as well: the model would not keep its line breaks and wide gaps.
        whole = split(read, limit=limit, tokenizer=tokenizer, language=language)
        pieces = [reading.whole(piece.start, piece.end) for piece in whole]
    else:
        pieces = [Part(0, len(read))]

    def encoded(piece: Part, limit: int | None) -> tuple[ReadPart, EncodedSource]:
        part = reading.part(piece.start, piece.end)
        if options.adapt_case:
            part = in_sentence_case(part, tokenizer.count, language)
        return part, tokenizer.encode(part.text, limit, languages.before_source)

    kept = []
    for piece in pieces:
        part, source = encoded(piece, limit if policy is LongInput.TRUNCATE else None)
        if policy is LongInput.SPLIT and source.size > limit:
            # Which numbers stand in for spans makes a difference of some tokens.
            spare = max(1, limit // 2) if part.stand_ins else limit
            shorter = split(read[piece.start : piece.end], limit=spare, tokenizer=tokenizer, language=language)
            ends = ((piece.start + one.start, piece.start + one.end) for one in shorter)
            kept += [encoded(reading.whole(start, end), limit) for start, end in ends]
        else:
            kept.append((part, source))
    kept = [(part, source) for part, source in kept if source.size]
    return PreparedText(reading, tuple(part for part, _ in kept), tuple(source for _, source in kept), end, markup)


def _too_long(
    prepared: PreparedText, options: Options, manifest: Manifest, tokenizer: SubwordTokenizer, limits: ServingLimits
) -> str | None:
    limit = manifest.limits.max_source_tokens
    if len(prepared.parts) > limits.max_parts:
        return f"splits into {len(prepared.parts)} parts, at most {limits.max_parts} are allowed; send it in pieces"
    if _policy(options) is not LongInput.REJECT or not prepared.sources:
        return None
    whole = len(prepared.sources) == 1
    tokens = prepared.sources[0].size if whole else tokenizer.count(prepared.reading.text)
    if tokens <= limit:
        return None
    return f"has {tokens} tokens, the model takes {limit}; shorten it, or set long_input_policy to SPLIT or TRUNCATE"


def _common_options(options: Options, manifest: Manifest, limits: ServingLimits) -> DecodingOptions:
    """Return the options that all sentences of a request have in common; ``max_length`` may depend on the sentence."""
    common: dict[str, Any] = {
        option.name: getattr(options, option.name)
        for option in fields(DecodingOptions)
        if getattr(options, option.name, None) is not None
    }
    if options.sampling and options.sampling.seed is None:
        common["sampling"] = replace(options.sampling, seed=secrets.randbits(63))
    unset = {"max_length": 0, "search": manifest.search, **dict(manifest.defaults)}
    return DecodingOptions(**unset | common | {"beam_size": beam_size(options, manifest, limits)})
