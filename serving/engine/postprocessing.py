"""From decoded sentences back to texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from unicodedata import normalize

import numpy as np

from serving.bundle.manifest import Manifest
from serving.bundle.tokenizer import DecodedTarget, EncodedSource, Spans, SubwordTokenizer
from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.alignment import word_links
from serving.engine.preprocessing import Prepared, PreparedText
from serving.engine.request import TranslationRequest
from serving.engine.submission import Decoded
from serving.messages import (
    AlignmentLink,
    AttentionMatrix,
    FinishReason,
    Hypothesis,
    Options,
    Piece,
    QualityFlag,
    Result,
    TermUse,
    Token,
    Translation,
)
from serving.step import Floats
from serving.text.casing import raised
from serving.text.characters import composing_edits
from serving.text.edits import EditedText
from serving.text.glossary import TermFinder
from serving.text.markup.document import Markup
from serving.text.markup.placement import markup_edits
from serving.text.quality import quality_flags
from serving.text.reading import Reading, ReadPart, StandIn
from serving.text.restoration import restoring_edits
from serving.text.segmentation import join
from serving.text.words import Aligned, Span, WordIndex

_BLANK = Hypothesis("", 0.0, 0.0, (), (), FinishReason.EOS)


def assemble(
    request: TranslationRequest,
    prepared: Prepared,
    decoded: Sequence[Decoded],
    manifest: Manifest,
    tokenizer: SubwordTokenizer,
) -> Result:
    """Put the answer to a request together; ``decoded[i]`` belongs to ``prepared.sentences[i]``."""
    translations = []
    rest = iter(decoded)
    for text in prepared.texts:
        parts = [next(rest) for _ in text.parts]
        language = prepared.languages.target
        translations.append(_translation(text, parts, tokenizer, request.options, language, prepared.glossary))
    first_admitted = min((one.admitted for one in decoded), default=0.0)
    return Result(
        translations=tuple(translations),
        model=manifest.name,
        version=manifest.version,
        source_tokens=sum(len(sentence.source) - 1 for sentence in prepared.sentences),
        target_tokens=sum(len(one.hypotheses[0].tokens) for one in decoded),
        queue_seconds=max((one.admitted - one.accepted for one in decoded), default=0.0),
        compute_seconds=max((one.finished - first_admitted for one in decoded), default=0.0),
        request_id=request.request_id,
    )


@dataclass(frozen=True)
class FinishedPart:
    """The translation of one part: its text, the span of each token in it, and whether a protected span is appended."""

    text: str
    pieces: tuple[str, ...]
    spans: Spans
    appended: bool


def _translation(
    text: PreparedText,
    parts: Sequence[Decoded],
    tokenizer: SubwordTokenizer,
    options: Options,
    language: str,
    glossary: TermFinder | None,
) -> Translation:
    if not parts:
        given = text.markup.raw if text.markup else text.reading.given[: text.end]
        blank = not (given if text.markup else text.reading.text).strip()
        unchanged = replace(_BLANK, text="" if blank else given)
        return Translation(hypotheses=(unchanged,), source_truncated=text.truncated, parts=0)
    # A text in several parts has one hypothesis: the best of each part.
    several = len(parts) > 1
    ranks = [[part.hypotheses[0] for part in parts]] if several else [[one] for one in parts[0].hypotheses]
    different: dict[str, Hypothesis] = {}  # by text: several token sequences may spell one
    flags: tuple[QualityFlag, ...] = ()
    terms: tuple[TermUse, ...] = ()
    for rank in ranks:
        if len(different) == options.n_best:
            break
        finished = [
            finished_part(part, source, hypothesis, tokenizer, language)
            for part, source, hypothesis in zip(text.parts, text.sources, rank, strict=True)
        ]
        if not different:
            flags = _flags(text, rank, finished, retried=any(part.retried for part in parts))
            terms = _terms(text, rank, tokenizer, glossary) if glossary else ()
        weights = [part.attention for part in parts] if options.attention and not different else []
        hypothesis = _hypothesis(text, rank, finished, options, tokenizer, weights)
        different.setdefault(hypothesis.text, hypothesis)
    return Translation(tuple(different.values()), text.truncated, len(parts), flags, terms)


def finished_part(
    part: ReadPart,
    source: EncodedSource,
    hypothesis: FinishedHypothesis,
    tokenizer: SubwordTokenizer,
    language: str,
) -> FinishedPart:
    """Turn the tokens of a hypothesis into text, with the case and the protected spans of its part."""
    target = decoded_text(part, source, hypothesis.tokens, hypothesis.alignment, tokenizer)
    composed = EditedText(target.text, composing_edits(target.text))
    text, spans, appended = raised(composed.text, part.case, language), moved_spans(target.spans, composed), False
    if part.stand_ins:
        attending = partial(attending_words, text, spans, source, hypothesis.alignment)
        edits, appended = restoring_edits(text, part.stand_ins, attending)
        restored = EditedText(text, edits)
        text, spans = restored.text, moved_spans(spans, restored)
    return FinishedPart(text, target.pieces, spans, appended)


def decoded_text(
    part: ReadPart, source: EncodedSource, tokens: Sequence[int], alignment: Sequence[int], tokenizer: SubwordTokenizer
) -> DecodedTarget:
    """Decode tokens of a part's translation; ``alignment`` has the source position that each attends to most."""
    attended: list[str] = []
    if tokenizer.copies_unknown_words:
        attended = [part.text[slice(*source.spans[position].tolist())] for position in alignment]
    return tokenizer.decode(tokens, attended)


def attending_words(
    text: str, spans: Spans, source: EncodedSource, alignment: Sequence[int], stand_in: StandIn
) -> Span | None:
    """Return the first words of a translation that attend to a stand-in.

    Args:
        text: The translation.
        spans: Of its tokens in it. Shape (tgt, 2), int64.
        source: What the model read.
        alignment: The source position each token attends to most. Length tgt.
        stand_in: One of the source.
    """
    inside = (source.spans[:, 0] < stand_in.end) & (source.spans[:, 1] > stand_in.start)
    found = spans[[bool(inside[position]) for position in alignment]]
    return WordIndex(text).covering(*found[0].tolist()) if len(found) else None


def moved_spans(spans: Spans, edited: EditedText) -> Spans:
    """Return where ranges of a text lie after edits. Shape (token, 2), int64."""
    if not edited:
        return spans
    return np.array([edited.after(begin, end) for begin, end in spans.tolist()], dtype=np.int64).reshape(-1, 2)


def _flags(
    text: PreparedText, rank: Sequence[FinishedHypothesis], finished: Sequence[FinishedPart], *, retried: bool
) -> tuple[QualityFlag, ...]:
    found = {QualityFlag.RETRIED} if retried else set()
    for part, source, hypothesis, target in zip(text.parts, text.sources, rank, finished, strict=True):
        found.update(
            quality_flags(text.reading.given[part.start : part.end], target.text, source.size, hypothesis.tokens)
        )
        if target.appended:
            found.add(QualityFlag.SPAN_APPENDED)
    return tuple(sorted(found))


def _terms(
    text: PreparedText, rank: Sequence[FinishedHypothesis], tokenizer: SubwordTokenizer, glossary: TermFinder
) -> tuple[TermUse, ...]:
    """Count terms in what the model said, before case, spans and tags are put into it."""
    wanted, used = Counter[int](), Counter[int]()
    for part, source, hypothesis, found in zip(text.parts, text.sources, rank, text.terms, strict=True):
        target = decoded_text(part, source, hypothesis.tokens, hypothesis.alignment, tokenizer).text
        wanted += found
        used.update({entry: glossary.used(entry, normalize("NFC", target)) for entry in found})
    return tuple(TermUse(entry, wanted[entry], used[entry]) for entry in sorted(wanted))


def _hypothesis(
    text: PreparedText,
    rank: Sequence[FinishedHypothesis],
    finished: Sequence[FinishedPart],
    options: Options,
    tokenizer: SubwordTokenizer,
    weights: Sequence[Floats | None],
) -> Hypothesis:
    aligned = [
        _aligned(text.reading, part, source, hypothesis, target)
        for part, source, hypothesis, target in zip(text.parts, text.sources, rank, finished, strict=True)
        if options.alignments or text.markup
    ]
    if text.markup:
        joined, placed = _in_markup(text, text.markup, aligned)
    else:
        places = [(part.start, part.end) for part in text.parts]
        joined, starts = join(text.reading.given[: text.end], places, [target.text for target in finished])
        placed = [(EditedText(target.text), start) for target, start in zip(finished, starts, strict=True)]
    links = [
        _moved(link, text, part, *there)
        for part, one, there in zip(text.parts, aligned, placed, strict=False)
        if options.alignments
        for link in word_links(one)
    ]
    log_probs = [log_prob for part in rank for log_prob in part.log_probs]
    return Hypothesis(
        text=joined,
        score=sum(part.score for part in rank),
        mean_log_prob=sum(log_probs) / len(log_probs) if log_probs else 0.0,
        tokens=tuple(
            Token(piece, log_prob)
            for part, target in zip(rank, finished, strict=True)
            if options.tokens
            # The end token's log-probability, where there is one, has no piece.
            for piece, log_prob in zip(target.pieces, part.log_probs, strict=False)
        ),
        alignment=tuple(links),
        finish_reason=FinishReason.LENGTH
        if any(part.finish_reason is FinishReason.LENGTH for part in rank)
        else FinishReason.EOS,
        attention=tuple(
            _attention(text, index, tokenizer, finished[index], own, *placed[index])
            for index, own in enumerate(weights)
        ),
    )


def _attention(
    text: PreparedText,
    index: int,
    tokenizer: SubwordTokenizer,
    target: FinishedPart,
    weights: Floats | None,
    edited: EditedText,
    start: int,
) -> AttentionMatrix:
    """Tell what part ``index`` attends to, from its weights (tgt, src), which an empty translation has not."""
    part, source = text.parts[index], text.sources[index]
    read = zip(tokenizer.source_pieces(source.ids.tolist()), _spans_in_part(text.reading, part, source), strict=True)
    made = zip(target.pieces, target.spans.tolist(), strict=True)
    return AttentionMatrix(
        source=tuple(Piece(piece, *_in_source(text, part, *span)) for piece, span in read),
        target=tuple(Piece(piece, *_in_target(edited, start, *span)) for piece, span in made),
        weights=() if weights is None else tuple(weights.ravel().tolist()),
    )


def _aligned(
    reading: Reading, part: ReadPart, source: EncodedSource, hypothesis: FinishedHypothesis, target: FinishedPart
) -> Aligned:
    spans = _spans_in_part(reading, part, source)
    return Aligned(
        reading.given[part.start : part.end],
        target.text,
        [
            (spans[position], (here[0], here[1]))
            for position, here in zip(hypothesis.alignment, target.spans.tolist(), strict=True)
        ],
    )


def _spans_in_part(reading: Reading, part: ReadPart, source: EncodedSource) -> list[Span]:
    """Return where each token that was read is in its part as given."""
    spans = [(begin, end) for begin, end in source.spans.tolist()]
    if not reading.edits:
        return spans
    given = (reading.edits.before(begin + part.offset, end + part.offset) for begin, end in spans)
    return [(begin - part.start, end - part.start) for begin, end in given]


def part_in_markup(
    text: PreparedText, markup: Markup, index: int, hypothesis: FinishedHypothesis, target: FinishedPart
) -> tuple[Span, str]:
    """Return where a part is in its markup, and its translation with tags."""
    part = text.parts[index]
    tagged = markup.part(part.start, part.end)
    aligned = _aligned(text.reading, part, text.sources[index], hypothesis, target)
    edits = markup_edits(aligned, tagged.tags, markup.kept)
    return (tagged.start, tagged.end), EditedText(aligned.target, edits).text


def _in_markup(
    text: PreparedText, markup: Markup, aligned: Sequence[Aligned]
) -> tuple[str, list[tuple[EditedText, int]]]:
    """Put translations into their markup.

    Returns:
        The markup, and of each part its translation with tags and where that begins.
    """
    parts = [markup.part(part.start, part.end) for part in text.parts]
    edited = [
        EditedText(one.target, markup_edits(one, part.tags, markup.kept))
        for one, part in zip(aligned, parts, strict=True)
    ]
    given = markup.raw if text.end == len(markup.text) else markup.cut(parts[-1].end)
    joined, starts = join(given, [(part.start, part.end) for part in parts], [one.text for one in edited])
    return joined, list(zip(edited, starts, strict=True))


def _moved(link: AlignmentLink, text: PreparedText, part: ReadPart, edited: EditedText, start: int) -> AlignmentLink:
    """Return a link of a part as one of the whole text and its translation."""
    source = _in_source(text, part, link.source_start, link.source_end)
    return AlignmentLink(*source, *_in_target(edited, start, link.target_start, link.target_end))


def _in_source(text: PreparedText, part: ReadPart, begin: int, end: int) -> Span:
    """Return where a range of a part is in the whole text, with its markup."""
    begin, end = begin + part.start, end + part.start
    return text.markup.given(begin, end) if text.markup else (begin, end)


def _in_target(edited: EditedText, start: int, begin: int, end: int) -> Span:
    """Return where a range of a part's translation is in that of the whole text; the part's own begins at ``start``."""
    begin, end = edited.after(begin, end)
    return begin + start, end + start
