"""Given translations, each with a place in the beam of a search, so that its steps tell how probable they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from serving.bundle.manifest import LanguagePair, Manifest
from serving.bundle.tokenizer import SubwordTokenizer
from serving.decoding.options import DecodingOptions
from serving.engine.preprocessing import Prepared, PreparedText, prepare_text
from serving.engine.request import ScoringRequest
from serving.engine.submission import Decoded, Sentence
from serving.engine.validation import ServingLimits, beam_size, request_violations
from serving.errors import FieldViolation, InvalidRequest
from serving.messages import LongInput, Options, Segmentation, Token
from serving.score_messages import PairScore, ScorePair, ScoreResult
from serving.text.casing import Case, lowered
from serving.text.edits import Edit, EditedText
from serving.text.reading import Reading, StandIn


def prepare_scoring(
    request: ScoringRequest, manifest: Manifest, tokenizer: SubwordTokenizer, limits: ServingLimits
) -> Prepared:
    """Check a request and turn it into sentences whose translations are given; at most one for each pair.

    Raises:
        InvalidRequest: With every bad field; pairs are looked at unless there is too much of them.
    """
    options = request.sources.options
    targets = sum(len(pair.target) + sum(map(len, pair.tokens)) for pair in request.pairs)
    violations = [_renamed(one) for one in request_violations(request.sources, manifest, limits, beside=targets)]
    if any(found.field == "pairs" for found in violations):
        raise InvalidRequest(violations)
    asked, known = request.sources, manifest.languages
    languages = known.pair(asked.source_language, asked.target_language) or known.first
    texts, sentences = [], []
    for index, pair in enumerate(request.pairs):
        text = _read(pair.source, options, manifest, tokenizer, languages)
        texts.append(text)
        tokens, problems = _target(pair, text, manifest, tokenizer, languages.target)
        violations += [FieldViolation(f"pairs[{index}].{field}", problem) for field, problem in problems]
        if not text.sources:
            continue
        forced = tokens if pair.unfinished else (*tokens, manifest.special_ids.eos)
        decoding = DecodingOptions(
            max_length=max(len(forced), 1),
            beam_size=beam_size(options, manifest, limits),
            length_penalty=manifest.defaults.length_penalty
            if options.length_penalty is None
            else options.length_penalty,
            prefix=forced,
            beside=True,
            start=languages.before_target,
        )
        deadline, request_id = request.sources.deadline, request.sources.request_id
        sentences.append(Sentence(text.sources[0].ids, decoding, deadline, options.priority, request_id))
    if violations:
        raise InvalidRequest(violations)
    return Prepared(languages, tuple(texts), tuple(sentences))


def scores(
    request: ScoringRequest,
    prepared: Prepared,
    decoded: Sequence[Decoded],
    manifest: Manifest,
    tokenizer: SubwordTokenizer,
) -> ScoreResult:
    """Put the answer together; ``decoded[i]`` belongs to ``prepared.sentences[i]``."""
    rest, found = iter(decoded), []
    for text in prepared.texts:
        if not text.sources:
            found.append(PairScore())
            continue
        best = next(rest).hypotheses[0]
        pieces = tokenizer.decode(best.tokens).pieces if request.sources.options.tokens else ()
        tokens = tuple(Token(piece, log_prob) for piece, log_prob in zip(pieces, best.log_probs, strict=False))
        found.append(PairScore(best.score, sum(best.log_probs) / len(best.log_probs), tokens))
    first_admitted = min((one.admitted for one in decoded), default=0.0)
    return ScoreResult(
        scores=tuple(found),
        model=manifest.name,
        version=manifest.version,
        source_tokens=sum(len(sentence.source) - 1 for sentence in prepared.sentences),
        target_tokens=sum(len(one.hypotheses[0].tokens) for one in decoded),
        queue_seconds=max((one.admitted - one.accepted for one in decoded), default=0.0),
        compute_seconds=max((one.finished - first_admitted for one in decoded), default=0.0),
        request_id=request.sources.request_id,
    )


def _renamed(violation: FieldViolation) -> FieldViolation:
    """Name a field of the sources' request as the message of this one does."""
    field = "pairs" if violation.field == "contents" else violation.field.removeprefix("options.")
    return replace(violation, field=field)


def _read(
    source: str, options: Options, manifest: Manifest, tokenizer: SubwordTokenizer, languages: LanguagePair
) -> PreparedText:
    """Read a source as Translate does where that makes one part of it, else as a whole."""
    by_sentences = replace(options, segmentation=Segmentation.SENTENCES, long_input=LongInput.REJECT)
    pair = (languages.source, languages.target)
    reading = Reading(source, tokenizer.unknown, protect=options.protect_spans, languages=pair)
    text = prepare_text(reading, None, by_sentences, manifest, tokenizer, languages)
    if len(text.parts) > 1:
        whole = replace(by_sentences, segmentation=Segmentation.NONE)
        text = prepare_text(reading, None, whole, manifest, tokenizer, languages)
    return text


def _target(
    pair: ScorePair, text: PreparedText, manifest: Manifest, tokenizer: SubwordTokenizer, language: str
) -> tuple[tuple[int, ...], list[tuple[str, str]]]:
    """Return the tokens of a pair's translation, and what is wrong with the pair, by field."""
    limits = manifest.limits
    problems = []
    if text.sources and text.sources[0].size > limits.max_source_tokens:
        size = text.sources[0].size
        problems.append(("source", f"has {size} tokens, the model takes {limits.max_source_tokens}; shorten it"))
    if pair.tokens and pair.target:
        problems.append(("target", "is given beside target_tokens; leave one of them out"))
    found = [tokenizer.target_token(piece) for piece in pair.tokens]
    strange = [piece for piece, token in zip(pair.tokens, found, strict=True) if token is None]
    if strange:
        problems.append(("target_tokens", f"has {strange[0]!r}, which is not a token of this model; give the target"))
    tokens = tuple(token for token in found if token is not None)
    if not pair.tokens and text.parts:
        tokens = tokenizer.encode_prefix(_as_decoded(pair.target, text, tokenizer, language))
    field = "target_tokens" if pair.tokens else "target"
    longest = limits.max_target_tokens - (not pair.unfinished)
    if len(tokens) > longest:
        problems.append((field, f"has {len(tokens)} tokens, but {longest} are the most that can be scored; shorten it"))
    if pair.unfinished and not tokens:
        problems.append((field, "is empty and unfinished, so that there is nothing to score; give its beginning"))
    return tokens, problems


def _as_decoded(target: str, text: PreparedText, tokenizer: SubwordTokenizer, language: str) -> str:
    """Return a translation as the model would have made it: what the server does to translations is undone."""
    part, given = text.parts[0], text.reading.given
    target = target.removeprefix(given[: part.start])
    target = target.removesuffix(given[part.end :]) if part.end < len(given) else target
    target = EditedText(target, _numbers(target, part.stand_ins)).text
    return target if part.case is Case.SENTENCE else lowered(target, tokenizer.count, language)


def _numbers(target: str, stand_ins: Sequence[StandIn]) -> Iterator[Edit]:
    """Yield the edits that put numbers in the places of protected spans, in order of place."""
    places: list[Edit] = []
    for stand_in in stand_ins:
        start = target.find(stand_in.text)
        while start >= 0 and any(edit.start < start + len(stand_in.text) and start < edit.end for edit in places):
            start = target.find(stand_in.text, start + 1)
        if start >= 0:
            number = " " * stand_in.space_before + stand_in.number + " " * stand_in.space_after
            places.append(Edit(start, start + len(stand_in.text), number))
    yield from sorted(places, key=lambda edit: edit.start)
