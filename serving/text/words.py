"""Words of a text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_RUN = re.compile(r"\S+")
# Scripts written without spaces, where each character counts as a word: Thai to Tibetan, Myanmar, Khmer, kana, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

Span = tuple[int, int]


@dataclass(frozen=True)
class Aligned:
    """A translation with its alignment.

    Attributes:
        source: What was read.
        target: The translation.
        links: Of each target token, in order, the range in ``source`` that it attends to, empty for the end token, and
            its own in ``target``.
    """

    source: str
    target: str
    links: Sequence[tuple[Span, Span]]


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
    for match in UNSPACED.finditer(text, start, end):
        if position < match.start():
            words.append((position, match.start()))
        words.append(match.span())
        position = match.end()
    if position < end:
        words.append((position, end))
    return words


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


class WordIndex:
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
