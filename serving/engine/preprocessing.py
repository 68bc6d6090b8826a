"""From texts to sentences: checks, splits and tokenises a request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serving.bundle.manifest import Manifest
from serving.bundle.tokenizer import EncodedSource, SubwordTokenizer
from serving.decoding.options import DecodingOptions
from serving.engine.segmentation import Part, split
from serving.engine.submission import Sentence
from serving.engine.translation import LongInputPolicy, TranslationOptions, TranslationRequest
from serving.engine.validation import ServingLimits, beam_size, option_violations, prefix_violations
from serving.errors import FieldViolation, InvalidRequest

_SPARE_TOKENS = 16  # of a translation that is not given a max_length, beyond twice its source


@dataclass(frozen=True)
class PreparedText:
    """One text of a request, in the parts it is decoded in; a blank text has none.

    Attributes:
        text: As given.
        parts: Where the parts are in it.
        sources: The parts as the model reads them.
    """

    text: str
    parts: tuple[Part, ...]
    sources: tuple[EncodedSource, ...]

    @property
    def truncated(self) -> bool:
        """Some of it is not translated."""
        return any(source.dropped for source in self.sources)


@dataclass(frozen=True)
class Prepared:
    """A request, ready to be decoded: ``sentences`` are the parts of all texts, in order."""

    texts: tuple[PreparedText, ...]
    sentences: tuple[Sentence, ...]


def default_max_length(source_tokens: int, options: TranslationOptions, prefix_tokens: int, limit: int) -> int:
    """Target tokens a translation may have whose request does not say: twice its source and some more.

    A model that has lost its way repeats itself until something stops it; the model's own limit would let it hold its
    slot for many times the work of the sentence. ``finish_reason`` LENGTH tells when this bit.
    """
    return min(limit, max(2 * source_tokens + _SPARE_TOKENS + prefix_tokens, options.min_length))


def prepare(
    request: TranslationRequest, manifest: Manifest, tokenizer: SubwordTokenizer, limits: ServingLimits
) -> Prepared:
    """Checks a request and turns it into sentences. A target prefix belongs to the first part of its text.

    Raises:
        InvalidRequest: With every bad option and every text that is too long.
    """
    options = request.options
    violations = option_violations(options, len(request.texts), manifest, limits)
    prefixes = tuple(tokenizer.encode_prefix(prefix) for prefix in options.prefixes)
    violations += prefix_violations(prefixes, options, manifest)
    texts = []
    for index, text in enumerate(request.texts):
        prepared = _prepare_text(text, options.long_input, manifest, tokenizer)
        if problem := _too_long(prepared, options.long_input, manifest, limits):
            violations.append(FieldViolation(f"contents[{index}]", problem))
        texts.append(prepared)
    if violations:
        raise InvalidRequest(violations)
    sentences = []
    for index, prepared in enumerate(texts):
        prefix = prefixes[index] if prefixes else ()
        for part, source in enumerate(prepared.sources):
            chosen = _decoding_options(options, manifest, source, prefix if part == 0 else (), len(prepared.parts))
            sentences.append(Sentence(source.ids, chosen, request.deadline, request.priority, request.request_id))
    return Prepared(tuple(texts), tuple(sentences))


def _prepare_text(text: str, policy: LongInputPolicy, manifest: Manifest, tokenizer: SubwordTokenizer) -> PreparedText:
    limit = manifest.limits.max_source_tokens
    if policy is not LongInputPolicy.SPLIT:
        source = tokenizer.encode(text, None if policy is LongInputPolicy.REJECT else limit)
        blank = source.size == 0
        return PreparedText(text, (), ()) if blank else PreparedText(text, (Part(0, len(text)),), (source,))
    # A text that fits is split as well: the model would not keep its line breaks and wide gaps.
    parts = split(text, limit=limit, tokenizer=tokenizer, language=manifest.source_language)
    sources = [tokenizer.encode(text[part.start : part.end], limit) for part in parts]
    kept = [(part, source) for part, source in zip(parts, sources, strict=True) if source.size]
    return PreparedText(text, tuple(part for part, _ in kept), tuple(source for _, source in kept))


def _too_long(prepared: PreparedText, policy: LongInputPolicy, manifest: Manifest, limits: ServingLimits) -> str | None:
    limit = manifest.limits.max_source_tokens
    if len(prepared.parts) > limits.max_parts:
        return f"splits into {len(prepared.parts)} parts, at most {limits.max_parts} are allowed; send it in pieces"
    if policy is not LongInputPolicy.REJECT or not prepared.sources:
        return None
    tokens = prepared.sources[0].size
    if tokens <= limit:
        return None
    return f"has {tokens} tokens, the model takes {limit}; shorten it, or set long_input_policy to SPLIT or TRUNCATE"


def _decoding_options(
    options: TranslationOptions, manifest: Manifest, source: EncodedSource, prefix: tuple[int, ...], parts: int
) -> DecodingOptions:
    alpha, beam = options.length_penalty, beam_size(options, manifest)
    decoding = DecodingOptions(
        max_length=options.max_length or 0,
        beam_size=beam,
        # Alternatives of parts do not combine into alternatives of a text. Hypotheses may spell the same text, so that
        # those beyond n_best are needed to find n_best texts that differ.
        n_best=2 * beam if parts == 1 and options.n_best > 1 else 1,
        length_penalty=manifest.defaults.length_penalty if alpha is None else alpha,
        min_length=options.min_length,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        repetition_penalty=options.repetition_penalty,
        prefix=prefix,
        sampling=options.sampling,
    )
    if options.max_length is not None:
        return decoding
    limit = manifest.limits.max_target_tokens
    return replace(decoding, max_length=default_max_length(source.size, options, len(prefix), limit))
