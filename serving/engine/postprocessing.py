"""From decoded sentences back to texts."""

from __future__ import annotations

from collections.abc import Sequence

from serving.bundle.tokenizer import EncodedSource, SubwordTokenizer
from serving.decoding.hypothesis import FinishReason, Hypothesis
from serving.engine.alignment import word_links
from serving.engine.preprocessing import Prepared, PreparedText
from serving.engine.segmentation import join
from serving.engine.submission import Decoded
from serving.engine.translation import (
    AlignmentLink,
    TranslatedToken,
    Translation,
    TranslationHypothesis,
    TranslationResult,
)

_BLANK = TranslationHypothesis("", 0.0, 0.0, (), (), FinishReason.EOS)


def assemble(
    prepared: Prepared, decoded: Sequence[Decoded], tokenizer: SubwordTokenizer, *, n_best: int, alignments: bool
) -> TranslationResult:
    """Put a request's translations together; ``decoded[i]`` belongs to ``prepared.sentences[i]``."""
    translations = []
    rest = iter(decoded)
    for text in prepared.texts:
        parts = [next(rest) for _ in text.parts]
        translations.append(_translation(text, parts, tokenizer, n_best=n_best, alignments=alignments))
    first_admitted = min((one.admitted for one in decoded), default=0.0)
    return TranslationResult(
        translations=tuple(translations),
        source_tokens=sum(len(sentence.source) - 1 for sentence in prepared.sentences),
        target_tokens=sum(len(one.hypotheses[0].tokens) for one in decoded),
        queue_seconds=max((one.admitted - one.accepted for one in decoded), default=0.0),
        compute_seconds=max((one.finished - first_admitted for one in decoded), default=0.0),
    )


def _translation(
    text: PreparedText, parts: Sequence[Decoded], tokenizer: SubwordTokenizer, *, n_best: int, alignments: bool
) -> Translation:
    # A text in several parts has one hypothesis: the best of each part.
    ranks = [[hypothesis] for hypothesis in parts[0].hypotheses] if len(parts) == 1 else []
    if len(parts) > 1:
        ranks = [[part.hypotheses[0] for part in parts]]
    different: dict[str, TranslationHypothesis] = {}  # by text: several token sequences may spell one
    for rank in ranks:
        if len(different) == n_best:
            break
        hypothesis = _hypothesis(text, rank, tokenizer, alignments=alignments)
        different.setdefault(hypothesis.text, hypothesis)
    return Translation(
        hypotheses=tuple(different.values()) or (_BLANK,), source_truncated=text.truncated, parts=len(parts)
    )


def _hypothesis(
    text: PreparedText, parts: Sequence[Hypothesis], tokenizer: SubwordTokenizer, *, alignments: bool
) -> TranslationHypothesis:
    targets = [
        tokenizer.decode(hypothesis.tokens, _attended(text.text[part.start : part.end], source, hypothesis))
        if tokenizer.copies_unknown_words
        else tokenizer.decode(hypothesis.tokens)
        for part, source, hypothesis in zip(text.parts, text.sources, parts, strict=True)
    ]
    joined, starts = join(text.text, text.parts, [target.text for target in targets])
    links: list[AlignmentLink] = []
    if alignments:
        for part, hypothesis, source, target, start in zip(
            text.parts, parts, text.sources, targets, starts, strict=True
        ):
            links += word_links(
                text.text[part.start : part.end],
                source.spans,
                target.text,
                target.spans,
                hypothesis.alignment,
                source_offset=part.start,
                target_offset=start,
            )
    log_probs = [log_prob for part in parts for log_prob in part.log_probs]
    return TranslationHypothesis(
        text=joined,
        score=sum(part.score for part in parts),
        mean_log_prob=sum(log_probs) / len(log_probs) if log_probs else 0.0,
        tokens=tuple(
            TranslatedToken(piece, log_prob)
            for part, target in zip(parts, targets, strict=True)
            # The end token's log-probability, where there is one, has no piece.
            for piece, log_prob in zip(target.pieces, part.log_probs, strict=False)
        ),
        alignment=tuple(links),
        finish_reason=FinishReason.LENGTH
        if any(part.finish_reason is FinishReason.LENGTH for part in parts)
        else FinishReason.EOS,
    )


def _attended(text: str, source: EncodedSource, hypothesis: Hypothesis) -> list[str]:
    """For each target token the source word it attends to most; the end of the source is no word."""
    return [text[slice(*source.spans[position].tolist())] for position in hypothesis.alignment]
