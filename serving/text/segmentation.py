"""Splitting of a text into lines and sentences, and of what is too long for the model into parts."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import sentencex  # type: ignore[import-untyped]

from serving.text.words import Span

_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_WORD_BORDER = re.compile(r"\s+(?=\S)")
# After Latin and Arabic marks with white space, or after CJK comma, semicolon and colon without.
_CLAUSE_BORDER = re.compile(r"(?:[,;:)\]\u00bb\u201d\u2013\u2014\u060c\u061b]\s+|[\u3001\uff0c\uff1b\uff1a])(?=\S)")
_NOT_BLANK = re.compile(r"\S(?:.*\S)?", re.DOTALL)
_SPACE = re.compile(r"[\s\ud800-\udfff]")
# All but a no-break space, which belongs to the words around it.
_COLUMN_GAP = re.compile(r"\s{2,}|[^\S \u00a0\u2007\u2009\u202f]")
_ONE_SENTENCE = re.compile(r"[^.!?\u0250-\U0010ffff]*[.!?]*[\"')\]]*\s*")
_WIDE_GAP = re.compile(r"\s{2,}|[^\S ]")  # white space other than one plain space
_BLOCK = 8192  # characters given to sentencex at once: on some texts its time is quadratic


@dataclass(frozen=True)
class Part:
    """A part of a text without white space around it: characters ``start`` .. ``end``, end exclusive."""

    start: int
    end: int


class TokenCounter(Protocol):
    """What splitting needs to know of a model."""

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the start and end of each token in text order."""
        ...


def sentences(text: str, language: str) -> Iterator[Part]:
    """Yield the sentences of each line, without white space around them; columns of a line count as sentences.

    No part holds white space that a model would not keep, but for a single no-break space.

    Args:
        text: Any text.
        language: BCP-47 tag; the rules for the end of a sentence depend on it.
    """
    for line in _LINE.finditer(text):
        content = line.group()
        borders = {0, len(content)}
        if not _ONE_SENTENCE.fullmatch(content):
            borders.update(sentence_borders(content, language))
        borders.update(gap.end() for gap in _COLUMN_GAP.finditer(content))
        for start, end in pairwise(sorted(borders)):
            if part := _NOT_BLANK.search(content, start, end):
                yield Part(line.start() + part.start(), line.start() + part.end())


def lines(text: str) -> Iterator[Part]:
    """Yield the lines of a text that are not blank, without white space around them."""
    for line in _LINE.finditer(text):
        if part := _NOT_BLANK.search(text, *line.span()):
            yield Part(*part.span())


def split(text: str, *, limit: int, tokenizer: TokenCounter, language: str) -> list[Part]:
    """Split a text into parts of at most ``limit`` source tokens.

    No part spans a line break, nor anything but a single space or nothing between sentences: the model would not keep
    it. Otherwise each part takes as many whole sentences as fit. A sentence that does not fit alone is cut at a clause
    border, else between words, else between tokens. A single character of more than ``limit`` tokens stays whole.

    Args:
        text: Any text.
        limit: Tokens of a part, the end token not counted.
        tokenizer: Counts them.
        language: BCP-47 tag; the rules for the end of a sentence depend on it.

    Returns:
        The parts in order. Between, before and after them is white space, or nothing.
    """
    return [
        Part(line.start() + part.start(), line.start() + part.end())
        for line in _LINE.finditer(text)
        for start, end in _cut(line.group(), limit, tokenizer, language)
        if (part := _NOT_BLANK.search(line.group(), start, end))
    ]


def join(text: str, parts: Sequence[Span], translations: Sequence[str]) -> tuple[str, list[int]]:
    """Put translated parts in the places of the parts, keeping what is between them.

    Returns:
        The joined text, and the position of each part's translation in it.
    """
    joined, starts, length, position = [], [], 0, 0
    for part, translation in zip(parts, translations, strict=True):
        gap = text[position : part[0]]
        joined += [gap, translation]
        starts.append(length + len(gap))
        length += len(gap) + len(translation)
        position = part[1]
    joined.append(text[position:])
    return "".join(joined), starts


def _cut(line: str, limit: int, tokenizer: TokenCounter, language: str) -> Iterator[tuple[int, int]]:
    """Cut one line; the pieces follow each other without a gap."""
    starts = _token_starts(line, tokenizer)
    if len(starts) <= limit and not _WIDE_GAP.search(line):
        yield 0, len(line)
        return
    sentences = sentence_borders(line, language)
    borders = (
        sentences,
        [match.end() for match in _CLAUSE_BORDER.finditer(line)],
        [match.end() for match in _WORD_BORDER.finditer(line)],
    )
    walls = [border for border in sentences if _WIDE_GAP.fullmatch(_gap_before(line, border))] + [len(line)]
    position = 0
    while position < len(line):
        wall = walls[bisect_right(walls, position)]
        first = bisect_left(starts, position)
        take = limit
        while True:
            reach = starts[first + take] if first + take < len(starts) else len(line)
            end = wall if wall <= reach else _last_border(borders, position, reach)
            # A piece is normalised by itself, so it may have more tokens than it had within its line.
            if take == 1 or tokenizer.count(line[position:end]) <= limit:
                break
            take = max(1, take * 3 // 4)
        yield position, end
        position = end


def _gap_before(line: str, position: int) -> str:
    """Return the white space that ends at ``position``."""
    begin = position
    while begin and line[begin - 1].isspace():
        begin -= 1
    return line[begin:position]


def _last_border(borders: tuple[list[int], ...], position: int, reach: int) -> int:
    """Return the last border of the best kind in (position, reach], else ``reach``; never ``position`` itself."""
    for kind in borders:
        index = bisect_right(kind, reach) - 1
        if index >= 0 and kind[index] > position:
            return kind[index]
    return max(reach, position + 1)


def _token_starts(text: str, tokenizer: TokenCounter) -> list[int]:
    """Return the position at which each token begins, white space skipped; never decreasing."""
    starts, last = [], 0
    for begin, end in tokenizer.spans(text):
        piece = text[begin:end]
        last = max(last, begin + len(piece) - len(piece.lstrip()))
        starts.append(last)
    return starts


def sentence_borders(text: str, language: str) -> list[int]:
    """Return the positions at which sentences begin, without the first. ``text`` is one line."""
    # sentencex 1.1 panics where white space of more than one byte follows certain periods, and takes no surrogates.
    plain, base = _SPACE.sub(" ", text), language.partition("-")[0].lower()
    borders: list[int] = []
    position = 0
    while position < len(plain):
        found = _sentences(base, plain[position : position + _BLOCK])
        begins = [position + start for start in found[1:]]
        borders += begins
        # The block may have cut its last sentence: it begins the next block.
        whole = position + _BLOCK >= len(plain) or not begins
        position = position + _BLOCK if whole else begins[-1]
    return borders


def _sentences(language: str, text: str) -> list[int]:
    """Return the positions at which sentences begin; a text that makes sentencex panic is one sentence."""
    try:
        return [int(sentence["start_index"]) for sentence in sentencex.get_sentence_boundaries(language, text)]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a BaseException of its own, which pyo3 does not let us import
            raise
        return [0]
