"""Word alignment from token alignment."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from serving.bundle.tokenizer import Spans
from serving.messages import AlignmentLink

_RUN = re.compile(r"\S+")
# Scripts written without spaces, where each character counts as a word: Thai to Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

Span = tuple[int, int]


def word_spans(text: str) -> list[Span]:
    """Return begin and end of each word, in order: runs without white space, with punctuation at their ends taken off.

    A punctuation mark that was taken off is a word of its own, and so is each character of a script without spaces.
    """
    words: list[Span] = []
    for run in _RUN.finditer(text):
        start, end = run.span()
        while start < end and _is_punctuation(text[start]):
            words.append((start, start + 1))
            start += 1
        tail = end
        while tail > start and _is_punctuation(text[tail - 1]):
            tail -= 1
        words += _core(text, start, tail)
        words += [(mark, mark + 1) for mark in range(tail, end)]
    return words


def _core(text: str, start: int, end: int) -> list[Span]:
    words, position = [], start
    for match in _UNSPACED.finditer(text, start, end):
        if position < match.start():
            words.append((position, match.start()))
        words.append(match.span())
        position = match.end()
    if position < end:
        words.append((position, end))
    return words


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def word_links(
    source: str,
    source_spans: Spans,
    target: str,
    target_spans: Spans,
    alignment: Sequence[int],
    *,
    source_offset: int = 0,
    target_offset: int = 0,
) -> tuple[AlignmentLink, ...]:
    """Link each target word to the source words that its tokens attend to most.

    A token that covers several words stands for all of them together. Tokens that attend to the end token, and those
    made of white space only, link nothing.

    Args:
        source: The source text, or the part of it that was translated.
        source_spans: Of its tokens, the end token included, as the model read them. Shape (src, 2), int64.
        target: Its translation.
        target_spans: Of its tokens. Shape (tgt, 2), int64.
        alignment: The source position each target token attends to most. Length tgt.
        source_offset: Position of ``source`` in the text that the links' offsets refer to.
        target_offset: Position of ``target`` in the text that the links' offsets refer to.

    Returns:
        Distinct links, in target order, then in source order.
    """
    source_words, target_words = _Words(source), _Words(target)
    links = set()
    for position, (begin, end) in zip(alignment, target_spans.tolist(), strict=True):
        target_word = target_words.covering(begin, end)
        source_word = source_words.covering(*source_spans[position].tolist())
        if source_word and target_word:
            links.add((target_word, source_word))
    return tuple(
        AlignmentLink(
            source_start=source_word[0] + source_offset,
            source_end=source_word[1] + source_offset,
            target_start=target_word[0] + target_offset,
            target_end=target_word[1] + target_offset,
        )
        for target_word, source_word in sorted(links)
    )


class _Words:
    """The words of a text, to be found by position."""

    def __init__(self, text: str) -> None:
        spans = word_spans(text)
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def covering(self, begin: int, end: int) -> Span | None:
        """Return the span of all words that share a character with begin .. end; empty means one character."""
        first = bisect_right(self._ends, begin)
        last = bisect_left(self._starts, max(end, begin + 1)) - 1
        return (self._starts[first], self._ends[last]) if first <= last else None
