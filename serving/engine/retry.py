"""A second try for translations that repeat themselves: from where that begins, under constraints against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence
from serving.text.quality import loop_start, loops

_PENALTY = 1.2  # of repeated tokens, as in Keskar et al. 2019
_NGRAM = 4  # tokens that do not occur twice


def may_try_again(sentence: Sentence) -> bool:
    """Return whether a translation of a sentence that repeats itself is worth a second try."""
    options = sentence.options
    constrained = options.repetition_penalty >= _PENALTY and 0 < options.no_repeat_ngram_size <= _NGRAM
    return not constrained and not loops(sentence.source.tolist())


def second_tries(sentences: Sequence[Sentence], decoded: Sequence[Decoded]) -> dict[int, Sentence]:
    """Return, by their index, what goes on from where a translation began to repeat itself.

    What comes before is kept, so that a stream may have told it.
    """
    again = {}
    for index, (sentence, answer) in enumerate(zip(sentences, decoded, strict=True)):
        first = answer.hypotheses[0].tokens
        start = loop_start(first)
        if start is not None and may_try_again(sentence):
            options = _constrained(sentence.options)
            kept = first[: max(start, len(options.prefix))]
            again[index] = replace(sentence, options=replace(options, prefix=kept))
    return again


def better(
    decoded: Sequence[Decoded], again: Mapping[int, Sentence], answers: Sequence[Decoded]
) -> tuple[Decoded, ...]:
    """Return what was decoded, with second tries that no longer repeat themselves in the places of the first.

    Args:
        decoded: The first tries.
        again: Second tries, by the index of the first.
        answers: What has become of them.
    """
    chosen = list(decoded)
    for (index, sentence), second in zip(again.items(), answers, strict=True):
        if not loops(second.hypotheses[0].tokens):
            first = decoded[index]
            kept = first.hypotheses[0].alignment[: len(sentence.options.prefix)]
            hypotheses = tuple(_aligned_as(kept, hypothesis) for hypothesis in second.hypotheses)
            chosen[index] = replace(first, hypotheses=hypotheses, finished=second.finished, retried=True)
    return tuple(chosen)


def _aligned_as(kept: tuple[int, ...], hypothesis: FinishedHypothesis) -> FinishedHypothesis:
    """Give the first tokens the alignment that a stream told; the same but for a tie."""
    return replace(hypothesis, alignment=kept + hypothesis.alignment[len(kept) :])


def _constrained(options: DecodingOptions) -> DecodingOptions:
    # What is kept is the model's own: it counts, and anything may follow it.
    kept = {"prefix_scored": True, "prefix_counted": True, "end_after_prefix": "any"}
    return replace(
        options,
        repetition_penalty=max(options.repetition_penalty, _PENALTY),
        no_repeat_ngram_size=min(options.no_repeat_ngram_size or _NGRAM, _NGRAM),
        search=options.search.model_copy(update=kept),
    )
