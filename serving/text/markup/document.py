"""A text in HTML or XML: what of it is read, and where the translations go."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate

from serving.text.edits import Edit, EditedText
from serving.text.markup.tokens import MarkupToken, TokenKind
from serving.text.words import Span

_PRIVATE = range(0x100000, 0x10FFFE)  # private use: characters that stand for what is kept
_WHITE_SPACE = re.compile(r"[ \t\n\f\r]+")


@dataclass(eq=False)
class TagSpan:
    """The tags of an element, or another one without content, in a part of a text.

    Attributes:
        opening: The tag before it; empty if that is before the part.
        closing: The tag after it; empty if that is after the part, or there is none.
        start: First character of what they enclose, in the part as it is read.
        end: Its end, exclusive.
        children: Those within.
    """

    opening: str
    closing: str
    start: int
    end: int
    children: list[TagSpan] = field(default_factory=list)


@dataclass(frozen=True)
class TaggedPart:
    """A part of a text: the characters ``start`` .. ``end`` of the markup, end exclusive, with the tags among them."""

    start: int
    end: int
    tags: list[TagSpan]


class Markup:
    """A text in HTML or XML.

    Attributes:
        raw: The markup, repaired.
        text: What is read of it: a line for each block, with single spaces. One character stands for what is kept, such
            as code within a sentence.
        kept: What each such character stands for.
    """

    def __init__(self, tokens: Sequence[MarkupToken]) -> None:
        """Find the text in balanced tokens."""
        _find_blocks(tokens)
        self._tokens = tokens
        self._starts = list(accumulate((len(token.raw) for token in tokens), initial=0))
        self.raw = "".join(token.raw for token in tokens)
        found = _Found(self.raw)
        found.read(tokens)
        self.kept = found.kept
        self._edits = EditedText(self.raw, found.edits)
        self._tags = found.tags
        self._places = [tag.place for tag in found.tags]
        self.text = self._edits.text

    @property
    def signs(self) -> list[Span]:
        """Where :attr:`text` has characters that stand for what is kept."""
        return [(place, place + 1) for place, character in enumerate(self.text) if character in self.kept]

    def part(self, start: int, end: int) -> TaggedPart:
        """Return a part of the text, given by its range in :attr:`text`.

        Tags at its ends that enclose all of it, or nothing of it, are left out: they stay where they are.
        """
        begin, stop = self._edits.before(start, end)
        tags, first, last = self._tags, bisect_left(self._places, start), bisect_right(self._places, end)
        while first < last and tags[first].place == start and not self._begins_within(first, start, end):
            first += 1
        while first < last and tags[last - 1].place == end and not self._ends_within(last - 1, start, end):
            last -= 1
        if first < last:
            begin = tags[first].begin if tags[first].place == start else begin
            stop = tags[last - 1].end if tags[last - 1].place == end else stop
        return TaggedPart(begin, stop, _tree([self._tags[index] for index in range(first, last)], self.raw, start, end))

    def given(self, start: int, end: int) -> Span:
        """Return where a range of :attr:`text` is in the markup as it was given."""
        begin, stop = self._edits.before(start, end)
        return self._given(begin), self._given(max(begin, stop - 1)) + (stop > begin)

    def cut(self, end: int) -> str:
        """Return the markup with all tags, but without the text from character ``end`` of :attr:`raw` on."""
        rest = zip(self._tokens, self._starts, strict=False)
        return self.raw[:end] + "".join(
            token.raw for token, start in rest if start >= end and token.kind is not TokenKind.TEXT
        )

    def _given(self, position: int) -> int:
        index = min(bisect_right(self._starts, position), len(self._tokens)) - 1
        return self._tokens[index].start + position - self._starts[index] if index >= 0 else position

    def _begins_within(self, index: int, start: int, end: int) -> bool:
        return self._tags[index].kind is TokenKind.START and start < self._tags[self._tags[index].partner].place < end

    def _ends_within(self, index: int, start: int, end: int) -> bool:
        return self._tags[index].kind is TokenKind.END and start < self._tags[self._tags[index].partner].place < end


@dataclass(eq=False)
class _Tag:
    kind: TokenKind
    place: int  # in the text that is read
    begin: int  # in the markup
    end: int
    partner: int = -1  # of START and END: index of the other


class _Role(Enum):
    TEXT = "text"
    TAG = "tag"  # moves with the text
    BREAK = "break"
    KEPT = "kept"  # the beginning of an element that is kept as a whole, within a text
    HIDDEN = "hidden"  # the same, and it stands for no word


def _find_blocks(tokens: Sequence[MarkupToken]) -> None:
    """Make blocks of what has a block in it, and of what is not translated but has something in it that is."""
    for token in tokens:
        element, parent = token.element, token.element.parent
        if token.kind is TokenKind.BREAK:
            breaks, around = element.translated, element
        elif token.kind is TokenKind.START and parent:
            breaks, around = (element.block if parent.translated else element.translated), parent
        else:
            continue
        while breaks and not around.block:
            around.block = True
            if around.parent is None:
                break
            around = around.parent


def _role(token: MarkupToken) -> _Role:
    element = token.element
    if token.kind in {TokenKind.START, TokenKind.END}:
        if element.block or not (element.parent and element.parent.translated):
            return _Role.BREAK
        if element.translated:
            return _Role.TAG
        return _Role.HIDDEN if element.hidden else _Role.KEPT
    if token.kind is TokenKind.BREAK or not element.translated:
        return _Role.BREAK
    return _Role.TEXT if token.kind is TokenKind.TEXT else _Role.TAG


class _Found:
    """What is found in tokens, in their order."""

    def __init__(self, raw: str) -> None:
        self.edits: list[Edit] = []
        self.tags: list[_Tag] = []
        self.kept: dict[str, str] = {}
        self._raw, self._begin = raw, 0  # the markup, and how far it is read
        self._length = 0  # of the text so far
        self._space = True  # white space here says nothing
        self._open: list[int] = []
        self._signs: Iterator[str] = iter(())

    def read(self, tokens: Sequence[MarkupToken]) -> None:
        """Read all tokens."""
        rest = iter(tokens)
        for token in rest:
            role = _role(token)
            end = self._begin + len(token.raw)
            if role is _Role.TEXT:
                self._read_text(token)
            elif role is _Role.TAG:
                self._read_tag(token.kind, end)
            elif role is _Role.BREAK:
                self._replace(end, "\n" if token.raw else "")
                self._space = True
            else:
                for inner in rest:
                    end += len(inner.raw)
                    if inner.kind is TokenKind.END and inner.element is token.element:
                        break
                if role is _Role.HIDDEN:
                    self._read_tag(TokenKind.VOID, end)
                else:
                    self._keep(end)
            self._begin = end

    def _read_text(self, token: MarkupToken) -> None:
        begin, text = self._begin, token.text
        if token.raw != text or token.element.preserved:
            if self._space and not token.element.preserved and not text.strip(" \t\n\f\r"):
                text = ""
            elif not token.element.preserved:
                text = _WHITE_SPACE.sub(" ", text)
            if text != token.raw:
                self.edits.append(Edit(begin, begin + len(token.raw), text))
            self._length += len(text)
        else:
            self._length += len(text)
            for run in _WHITE_SPACE.finditer(text):
                new = "" if self._space and run.start() == 0 else " "
                if new != run.group():
                    self.edits.append(Edit(begin + run.start(), begin + run.end(), new))
                    if not new and self.tags and self.tags[-1].kind is TokenKind.VOID and self.tags[-1].end == begin:
                        self.tags[-1].end += run.end()  # its own space, beside that before it
                    self._length += len(new) - len(run.group())
        self._space = text[-1].isspace() if text else self._space

    def _read_tag(self, kind: TokenKind, end: int) -> None:
        tag = _Tag(kind, self._length, self._begin, end)
        if kind is TokenKind.START:
            self._open.append(len(self.tags))
        elif kind is TokenKind.END:
            tag.partner = self._open.pop()
            self.tags[tag.partner].partner = len(self.tags)
        self.tags.append(tag)
        self._replace(end, "")

    def _keep(self, end: int) -> None:
        if not self.kept:
            taken = set(self._raw)
            self._signs = (sign for sign in map(chr, _PRIVATE) if sign not in taken)
        sign = next(self._signs, None)
        if sign is None:
            self._replace(end, "\n")
            self._space = True
            return
        self.kept[sign] = self._raw[self._begin : end]
        self._replace(end, sign)
        self._space = False

    def _replace(self, end: int, new: str) -> None:
        if end > self._begin:
            self.edits.append(Edit(self._begin, end, new))
            self._length += len(new)


def _tree(tags: Sequence[_Tag], raw: str, start: int, end: int) -> list[TagSpan]:
    """Return the tags of a part within each other; those that it cuts in two end at its ends."""
    top: list[TagSpan] = []
    open_spans: list[TagSpan] = []
    for tag in tags:
        inside = open_spans[-1].children if open_spans else top
        if tag.kind is TokenKind.END:
            if open_spans:
                span = open_spans.pop()
                span.closing, span.end = raw[tag.begin : tag.end], tag.place - start
            else:
                top = [TagSpan("", raw[tag.begin : tag.end], 0, tag.place - start, top)]
        else:
            stop = end if tag.kind is TokenKind.START else tag.place
            span = TagSpan(raw[tag.begin : tag.end], "", tag.place - start, stop - start)
            inside.append(span)
            if tag.kind is TokenKind.START:
                open_spans.append(span)
    return top
