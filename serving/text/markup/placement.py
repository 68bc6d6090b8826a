"""Tags put into a translation, around the words that the alignment says they cover.

As in Bergamot, tags leave the text before it is translated. Every element comes back once and in one piece: around the
run of target words with the most votes for it, where each token votes for or against it by what it attends to.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from operator import attrgetter

from serving.text.edits import Edit
from serving.text.markup.document import TagSpan
from serving.text.words import Aligned, Span, WordIndex, word_spans

_SAME = 3  # votes of a word that is the same in both texts, and once in each
_SPECIAL = frozenset("&<>")

Vote = tuple[Span, int]  # the source characters it is for, and its weight


def markup_edits(aligned: Aligned, tags: Sequence[TagSpan], kept: Mapping[str, str]) -> list[Edit]:
    """Return the edits that make the translation of a part markup again.

    Args:
        aligned: The translation.
        tags: The part's tags; positions are in ``aligned.source``.
        kept: What single characters stand for.
    """
    edits = [
        Edit(place, place + 1, kept.get(character) or escape(character, quote=False))
        for place, character in enumerate(aligned.target)
        if character in kept or character in _SPECIAL
    ]
    if tags:
        found = defaultdict[int, list[str]](list)
        for place, tag in _Placement(aligned).tags(tags):
            found[place].append(tag)
        edits += [Edit(place, place, "".join(found[place])) for place in found]
        edits.sort(key=attrgetter("start", "end"))
    return edits


@dataclass(frozen=True)
class _Room:
    """A range of a translation: words ``first`` .. ``last`` and characters ``start`` .. ``end``, ends exclusive."""

    first: int
    last: int
    start: int
    end: int


class _Placement:
    def __init__(self, aligned: Aligned) -> None:
        self._source = aligned.source
        self._words = word_spans(aligned.target)
        self._votes = _votes(aligned, self._words)
        self._all = _Room(0, len(self._words), 0, len(aligned.target))

    def tags(self, spans: Sequence[TagSpan]) -> Iterator[tuple[int, str]]:
        """Yield each tag with its place, in the order of the translation."""
        return self._inside(spans, self._all)

    def _inside(self, spans: Sequence[TagSpan], room: _Room) -> Iterator[tuple[int, str]]:
        free = [True] * (room.last - room.first)  # words that no element of these has yet
        placed: list[tuple[_Room, TagSpan]] = []
        # Those that are cut by an end of the part have the words at that end, the others what is left.
        for span in sorted(spans, key=lambda span: bool(span.opening and span.closing)):
            words = self._run(span, room, free) if span.start < span.end else None
            if words is None:
                continue
            first, last = words
            free[first - room.first : last - room.first] = [False] * (last - first)
            start = self._words[first][0] if span.opening else room.start
            end = self._words[last - 1][1] if span.closing else room.end
            placed.append((_Room(first, last, start, end), span))
        taken, done = [there for there, _ in placed], {id(span) for _, span in placed}
        for span in spans:
            if id(span) not in done:
                point = self._point(span, room)
                point = next((there.end for there in taken if there.start < point < there.end), point)
                placed.append((_Room(room.first, room.first, point, point), span))
        placed.sort(key=lambda entry: (entry[0].start, entry[0].end))
        for there, span in placed:
            yield there.start, span.opening
            yield from self._inside(span.children, there)
            yield there.end, span.closing

    def _run(self, span: TagSpan, room: _Room, free: Sequence[bool]) -> Span | None:
        """Return the run of free words with the most votes for an element; None if none has any."""
        weights = [
            _weight(self._votes[word], span) if free[word - room.first] else None
            for word in range(room.first, room.last)
        ]
        if not span.opening:
            found = _best_beginning(weights)
            return (room.first, room.first + found) if found else None
        if not span.closing:
            found = _best_beginning(weights[::-1])
            return (room.last - found, room.last) if found else None
        run = _best_run(weights)
        if run is None:
            # Some token of this word is for the element, if more are for others.
            some = [
                (weight, word)
                for word, weight in enumerate(weights)
                if weight is not None and any(_overlaps(vote, span) for vote, _ in self._votes[room.first + word])
            ]
            word = max(some)[1] if some else -1
            run = (word, word + 1) if some else None
        return (room.first + run[0], room.first + run[1]) if run else None

    def _point(self, span: TagSpan, room: _Room) -> int:
        """Return the place of what has no words: after the translation of the word before it, else before the next."""
        if not span.opening:
            return room.start
        if not span.closing and span.start < span.end:
            return room.end
        votes = [(vote, word) for word in range(room.first, room.last) for (vote, _) in self._votes[word]]
        before = [(vote[1], word) for vote, word in votes if vote[1] <= span.start]
        if before:
            word = max(before)[1]
            # What is before a word, after a space, stays before one.
            if self._source[: span.start][-1:].isspace() and word + 1 < room.last:
                return self._words[word + 1][0]
            return self._words[word][1]
        after = [(vote[0], word) for vote, word in votes if vote[0] >= span.start]
        return self._words[min(after)[1]][0] if after else room.start


def _votes(aligned: Aligned, words: Sequence[Span]) -> list[list[Vote]]:
    """Return the votes of each target word."""
    votes: list[list[Vote]] = [[] for _ in words]
    number = {span: index for index, span in enumerate(words)}
    index = WordIndex(aligned.target)
    source_words = word_spans(aligned.source)
    for source, target in _sure(aligned.links, source_words):
        covered = index.covering(*target)
        word = number.get(covered) if covered else None
        # What marks and words attend to each other tells nothing.
        if word is not None and _is_word(aligned.source[slice(*source)]) == _is_word(aligned.target[slice(*target)]):
            votes[word].append((source, 1))
    theirs, ours = _once(aligned.source, source_words), _once(aligned.target, words)
    for text in theirs.keys() & ours.keys():
        votes[number[ours[text]]].append((theirs[text], _SAME))
    return votes


def _sure(links: Sequence[tuple[Span, Span]], words: Sequence[Span]) -> Sequence[tuple[Span, Span]]:
    """Return links, those of a model whose attention tells nothing in the order of the text."""
    if len(links) < 3 or len(words) < 2 or len({source for source, _ in links}) > 1:
        return links
    return [(words[place * len(words) // len(links)], target) for place, (_, target) in enumerate(links)]


def _once(text: str, words: Sequence[Span]) -> dict[str, Span]:
    """Return words that occur once, by their spelling."""
    spelt = [text[start:end].casefold() for start, end in words]
    count = Counter(spelt)
    return {word: span for word, span in zip(spelt, words, strict=True) if count[word] == 1 and _is_word(word)}


def _is_word(text: str) -> bool:
    return any(unicodedata.category(character)[0] not in "PSZ" for character in text)


def _weight(votes: Sequence[Vote], span: TagSpan) -> int:
    return sum(weight if _overlaps(vote, span) else -weight for vote, weight in votes)


def _overlaps(vote: Span, span: TagSpan) -> bool:
    return vote[0] < span.end and vote[1] > span.start


def _best_beginning(weights: Sequence[int | None]) -> int:
    """Return how many of the first words have the largest sum, 0 if it is not positive; None ends them."""
    stop = next((index for index, weight in enumerate(weights) if weight is None), len(weights))
    sums = list(accumulate((weight or 0 for weight in weights[:stop]), initial=0))
    return sums.index(max(sums))


def _best_run(weights: Sequence[int | None]) -> Span | None:
    """Return the run with the largest positive sum (Kadane's algorithm); None is in no run."""
    best, found, total, start = 0, None, 0, 0
    for index, weight in enumerate(weights):
        if weight is None or total + weight <= 0:
            total, start = 0, index + 1
            continue
        total += weight
        if total > best:
            best, found = total, (start, index + 1)
    return found
