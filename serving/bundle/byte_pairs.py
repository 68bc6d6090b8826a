"""Byte pair encoding of words (Sennrich et al. 2016), by merges as subword-nmt's files list them."""

from __future__ import annotations

import re
from functools import lru_cache
from heapq import heappop, heappush

JOINER = "@@"  # behind a part of a word that another follows, in the tokens made of parts
_END = "</w>"  # of a word
_CACHED = 1 << 15  # words, of at most so many characters:
_SHORT = 64


class BytePairs:
    """Merges of pairs of symbols, the first in the list first; immutable but for its cache, so threads may share it."""

    def __init__(self, codes: str) -> None:
        """Read the list, one pair a line.

        Raises:
            ValueError: A line is no pair, or the list is of a version other than 0.1 and 0.2.
        """
        lines = re.sub("\r\n?", "\n", codes).rstrip("\n").split("\n")
        version = (0, 1)
        if lines[0].startswith("#version:"):
            said = lines.pop(0).split()[-1]
            if re.fullmatch(r"0\.[12](\.0+)*", said) is None:
                raise ValueError(f"its version is {said}, only 0.1 and 0.2 are known")
            version = (0, int(said[2]))
        self._apart = version == (0, 1)  # the end of a word is a symbol of its own
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, line in enumerate(lines):
            pair = line.strip("\r\n ").split(" ")
            if len(pair) != 2:
                raise ValueError(f"line {line[:40]!r} is not a pair of symbols")
            self._ranks.setdefault((pair[0], pair[1]), rank)
        self._cached = lru_cache(maxsize=_CACHED)(self._cut)

    def cut(self, word: str) -> tuple[str, ...]:
        """Return the parts of a word that has at least one character."""
        return self._cached(word) if len(word) <= _SHORT else self._cut(word)

    def _cut(self, word: str) -> tuple[str, ...]:
        # A heap of the pairs, and links between symbols: a word of n characters takes n log n.
        symbols = [*word, _END] if self._apart else [*word[:-1], word[-1] + _END]
        count, heap = len(symbols), list[tuple[int, int]]()
        after, before = list(range(1, count + 1)), list(range(-1, count - 1))

        def rank_at(place: int) -> int | None:
            right = after[place]
            return self._ranks.get((symbols[place], symbols[right])) if right < count else None

        def note(place: int) -> None:
            if place >= 0 and (rank := rank_at(place)) is not None:
                heappush(heap, (rank, place))

        for place in range(count):
            note(place)
        while heap:
            # All that were there when the turn of their pair came, from left to right.
            best, places = heap[0][0], list[int]()
            while heap and heap[0][0] == best:
                places.append(heappop(heap)[1])
            for place in places:
                if rank_at(place) != best:  # merged with another meanwhile
                    continue
                right = after[place]
                symbols[place] += symbols[right]
                symbols[right] = ""
                after[place] = after[right]
                if after[place] < count:
                    before[after[place]] = place
                note(before[place])
                note(place)
        parts = [symbol for symbol in symbols if symbol]
        last = parts.pop().removesuffix(_END)
        return tuple([*parts, last] if last else parts)
