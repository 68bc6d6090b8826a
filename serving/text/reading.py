"""What a model reads of a text: clean characters, with stand-ins in the places of protected spans."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, pairwise
from operator import attrgetter
from unicodedata import is_normalized

from serving.text.casing import Case, case_of, lowered
from serving.text.characters import cleaning_edits, visible
from serving.text.edits import Edit, EditedText
from serving.text.grouped_numbers import rewritten_numbers
from serving.text.protection import ProtectedSpan, is_plain, protected_spans
from serving.text.segmentation import Part
from serving.text.words import Span

# Numbers of three digits are what models copy most surely. All have the same length, so that any fits in any place.
_STAND_INS = ("731", "942", "583", "614", "827", "395", "268", "457", "916", "149", "372", "853", "624", "791", "538")
_WIDTH = 3
STAND_IN = re.compile(r"(?<!\d)\d{3}(?!\d)")
_start = attrgetter("start")
_LETTER = re.compile(r"[^\W\d_]")
_BULLET = re.compile(r"(?:(?:[-*+\u2022\u00b7\u2013\u2014>#]+|\d{1,3}[.)]|\(?[A-Za-z0-9]{1,2}\)|\[[ xX]\])\s+)+")


@dataclass(frozen=True)
class StandIn:
    """A number in the place of a protected span.

    Attributes:
        start: Where it begins in what the model reads.
        text: What comes back in its place: the span, or the number that it is as the target language writes it.
        symbol: The span has neither letters nor digits.
        space_before: A space before it was added.
        space_after: A space after it was added.
        number: The number.
    """

    start: int
    text: str
    symbol: bool
    space_before: bool
    space_after: bool
    number: str = _STAND_INS[0]

    @property
    def end(self) -> int:
        """Where it ends in what the model reads."""
        return self.start + _WIDTH


@dataclass(frozen=True)
class ReadPart:
    """A part of a text as the model reads it.

    Attributes:
        start: Begin of what it translates, in the text as given.
        end: Its end, exclusive.
        offset: Begin of the part in the reading of the whole text.
        text: What the model reads.
        stand_ins: Those in it; their positions count from its begin.
        case: The case that its translation gets.
    """

    start: int
    end: int
    offset: int
    text: str
    stand_ins: tuple[StandIn, ...]
    case: Case


class Reading:
    """A text and what a model reads of it."""

    def __init__(
        self,
        given: str,
        unknown: Callable[[str], frozenset[str]],
        *,
        protect: bool = True,
        marked: Sequence[Span] = (),
        languages: tuple[str, str] | None = None,
    ) -> None:
        """Find what to protect and what to clean.

        Args:
            given: The text.
            unknown: Returns the characters of a text that the model has no name for.
            protect: Whether to look for spans to protect.
            marked: Spans to protect in any case.
            languages: BCP-47 tags of the text and of its translation, by which to rewrite numbers if it is protected.
        """
        self.given = given
        self._stand_ins: tuple[StandIn, ...] = ()
        strange = unknown(given) if protect else frozenset()
        numbers = rewritten_numbers(given, *languages) if protect and languages else []
        if not (strange or marked or numbers) and is_plain(given) and is_normalized("NFC", given):
            self.edits = EditedText(given)
            return
        spans = protected_spans(given, strange, marked, numbers=numbers, search=protect)
        self.edits = EditedText(given, _edits(given, spans))
        self._stand_ins = tuple(self._stand_in(span) for span in spans)

    @property
    def text(self) -> str:
        """What the model reads, but for case and for which number stands in for what."""
        return self.edits.text

    def language(self, start: int, end: int) -> Part | None:
        """Return what of a piece of the reading is for the model: without bullets before it and symbols around it.

        Returns:
            None if the piece has no letters.
        """
        if bullet := _BULLET.match(self.text, start, end):
            start = bullet.end()
        inside = deque(self._within(start, end))
        while inside and inside[0].symbol and not self.text[start : inside[0].start].strip():
            start = inside.popleft().end
        while inside and inside[-1].symbol and not self.text[inside[-1].end : end].strip():
            end = inside.pop().start
        piece = self.text[start:end]
        if not _LETTER.search(piece):
            return None
        return Part(start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))

    def whole(self, start: int, end: int) -> Part:
        """Return a piece of the reading without the rest of a stand-in at its begin, with all of one at its end."""
        return Part(self._outside(start), self._outside(end))

    def part(self, start: int, end: int) -> ReadPart:
        """Return a piece of the reading with a number of its own for each stand-in."""
        begin, stop = self.edits.before(start, end)
        text, inside = self.text[start:end], self._within(start, end)
        if inside:
            places = [(one.start - start, one.end - start) for one in inside]
            others = EditedText(text, [Edit(*place, "") for place in places]).text
            inside = [
                replace(one, start=at, number=number)
                for one, (at, _), number in zip(inside, places, _free_numbers(others), strict=False)
            ]
            text = EditedText(text, [Edit(one.start, one.end, one.number) for one in inside]).text
        return ReadPart(begin, stop, start, text, tuple(inside), Case.SENTENCE)

    def _within(self, start: int, end: int) -> list[StandIn]:
        first = bisect_left(self._stand_ins, start, key=_start)
        return list(self._stand_ins[first : bisect_right(self._stand_ins, end - _WIDTH, lo=first, key=_start)])

    def _outside(self, position: int) -> int:
        index = bisect_left(self._stand_ins, position, key=_start) - 1
        return max(position, self._stand_ins[index].end) if index >= 0 else position

    def _stand_in(self, span: ProtectedSpan) -> StandIn:
        begin, end = self.edits.after(span.start, span.end)
        before, after = self.text[begin] == " ", self.text[end - 1] == " "
        return StandIn(begin + before, span.restored(self.given), span.symbol, before, after)


def in_sentence_case(part: ReadPart, length: Callable[[str], int], language: str) -> ReadPart:
    """Return the part as the model reads it best, which remembers its case; see :func:`lowered`."""
    case = case_of(part.text)
    if case is Case.SENTENCE:
        return part
    return replace(part, text=lowered(part.text, length, language), case=case)


def _free_numbers(text: str) -> Iterator[str]:
    """Yield stand-ins without end, first those that are no numbers of the text."""
    taken = {int(number) for number in STAND_IN.findall(text)}
    others = (number for number in map(str, range(10 ** (_WIDTH - 1), 10**_WIDTH)) if number not in _STAND_INS)
    return cycle([number for number in chain(_STAND_INS, others) if int(number) not in taken] or _STAND_INS)


def _edits(text: str, spans: list[ProtectedSpan]) -> Iterator[Edit]:
    position = 0
    for span, following in pairwise([*spans, ProtectedSpan(len(text), len(text))]):
        yield from cleaning_edits(text, position, span.start)
        # A number must not become one with a letter or digit beside it.
        before = " " if visible(text[position : span.start])[-1:].isalnum() else ""
        after = " " if visible(text[span.end : following.start])[:1].isalnum() else ""
        yield Edit(span.start, span.end, before + _STAND_INS[0] + after)
        position = span.end
    yield from cleaning_edits(text, position, len(text))
