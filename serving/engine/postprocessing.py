"""From decoded sentences back to texts."""

from __future__ import annotations

from collections.abc import Sequence

from serving.bundle.manifest import Manifest
from serving.bundle.tokenizer import EncodedSource, SubwordTokenizer
from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.alignment import word_links
from serving.engine.preprocessing import Prepared, PreparedText
from serving.engine.request import TranslationRequest
from serving.engine.segmentation import join
from serving.engine.submission import Decoded
from serving.messages import AlignmentLink, FinishReason, Hypothesis, Options, Result, Token, Translation

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
        translations.append(_translation(text, parts, tokenizer, request.options))
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


def _translation(
    text: PreparedText, parts: Sequence[Decoded], tokenizer: SubwordTokenizer, options: Options
) -> Translation:
    # A text in several parts has one hypothesis: the best of each part.
    ranks = [[hypothesis] for hypothesis in parts[0].hypotheses] if len(parts) == 1 else []
    if len(parts) > 1:
        ranks = [[part.hypotheses[0] for part in parts]]
    different: dict[str, Hypothesis] = {}  # by text: several token sequences may spell one
    for rank in ranks:
        if len(different) == options.n_best:
            break
        hypothesis = _hypothesis(text, rank, tokenizer, options)
        different.setdefault(hypothesis.text, hypothesis)
    return Translation(
        hypotheses=tuple(different.values()) or (_BLANK,), source_truncated=text.truncated, parts=len(parts)
    )


def _hypothesis(
    text: PreparedText, parts: Sequence[FinishedHypothesis], tokenizer: SubwordTokenizer, options: Options
) -> Hypothesis:
    targets = [
        tokenizer.decode(hypothesis.tokens, _attended(text.text[part.start : part.end], source, hypothesis))
        if tokenizer.copies_unknown_words
        else tokenizer.decode(hypothesis.tokens)
        for part, source, hypothesis in zip(text.parts, text.sources, parts, strict=True)
    ]
    joined, starts = join(text.text, text.parts, [target.text for target in targets])
    links: list[AlignmentLink] = []
    if options.alignments:
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
    return Hypothesis(
        text=joined,
        score=sum(part.score for part in parts),
        mean_log_prob=sum(log_probs) / len(log_probs) if log_probs else 0.0,
        tokens=tuple(
            Token(piece, log_prob)
            for part, target in zip(parts, targets, strict=True)
            if options.tokens
            # The end token's log-probability, where there is one, has no piece.
            for piece, log_prob in zip(target.pieces, part.log_probs, strict=False)
        ),
        alignment=tuple(links),
        finish_reason=FinishReason.LENGTH
        if any(part.finish_reason is FinishReason.LENGTH for part in parts)
        else FinishReason.EOS,
    )


def _attended(text: str, source: EncodedSource, hypothesis: FinishedHypothesis) -> list[str]:
    """Return the source word that each target token attends to most; empty at the end of the source."""
    return [text[slice(*source.spans[position].tolist())] for position in hypothesis.alignment]
