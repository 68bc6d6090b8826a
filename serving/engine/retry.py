"""A second try for translations that repeat themselves, under constraints that keep them from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from serving.decoding.options import DecodingOptions
from serving.engine.submission import Decoded, Sentence
from serving.text.quality import loops

_PENALTY = 1.2  # of repeated tokens, as in Keskar et al. 2019
_NGRAM = 4  # tokens that do not occur twice


def second_tries(sentences: Sequence[Sentence], decoded: Sequence[Decoded]) -> dict[int, Sentence]:
    """Return, by their index, the sentences that are worth a second try: those that repeat themselves only now."""
    again = {}
    for index, (sentence, answer) in enumerate(zip(sentences, decoded, strict=True)):
        if loops(answer.hypotheses[0].tokens) and not loops(sentence.source.tolist()):
            options = _constrained(sentence.options)
            if options != sentence.options:
                again[index] = replace(sentence, options=options)
    return again


def better(decoded: Sequence[Decoded], again: Mapping[int, Decoded]) -> tuple[Decoded, ...]:
    """Return the answers, with those of second tries that no longer repeat themselves in the places of the first."""
    chosen = list(decoded)
    for index, second in again.items():
        if not loops(second.hypotheses[0].tokens):
            first = decoded[index]
            chosen[index] = replace(first, hypotheses=second.hypotheses, finished=second.finished, retried=True)
    return tuple(chosen)


def _constrained(options: DecodingOptions) -> DecodingOptions:
    return replace(
        options,
        repetition_penalty=max(options.repetition_penalty, _PENALTY),
        no_repeat_ngram_size=min(options.no_repeat_ngram_size or _NGRAM, _NGRAM),
    )
