"""Terms with a translation of their own: found in a text, and counted in its translation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from unicodedata import normalize

from serving.messages import GlossaryEntry
from serving.text.words import UNSPACED


class TermFinder:
    """The entries of one request.

    A term without capitals is found whatever its case, one with capitals only as it is spelt. Of terms that overlap the
    longest counts.
    """

    def __init__(self, entries: Sequence[GlossaryEntry]) -> None:
        """Prepare the search; no term is blank."""
        self._order = sorted(range(len(entries)), key=lambda index: -len(entries[index].source))
        sources = [entries[index].source for index in self._order]
        self._as_spelt = re.compile("|".join(f"({_pattern(source)})" for source in sources))
        self._any_case = re.compile(self._as_spelt.pattern.replace("(?i:", "(?:"), re.IGNORECASE)
        self._targets = [re.compile(_pattern(entry.target)) for entry in entries]

    def found(self, text: str, *, any_case: bool) -> Counter[int]:
        """Count the terms of a text by entry.

        Args:
            text: In normalisation form C.
            any_case: Its case says nothing, as that of a title.
        """
        pattern = self._any_case if any_case else self._as_spelt
        return Counter(self._order[match.lastindex - 1] for match in pattern.finditer(text) if match.lastindex)

    def used(self, entry: int, translation: str) -> int:
        """Count the target term of an entry in a translation."""
        return sum(1 for _ in self._targets[entry].finditer(translation))


def spellings_in_case(term: str) -> tuple[str, ...]:
    """Return a target term as it may be written: as it is, and with a capital at the beginning of a sentence."""
    term = normalize("NFC", " ".join(term.split()))
    return tuple(dict.fromkeys((term, term[:1].upper() + term[1:])))


def _pattern(term: str) -> str:
    """Return the pattern of a term that is no part of a longer word; scripts without spaces have no such borders."""
    words = normalize("NFC", term).split()
    pattern = r"\s+".join(map(re.escape, words))
    first, last = words[0][0], words[-1][-1]
    before = r"(?<!\w)" if first.isalnum() and not UNSPACED.match(first) else ""
    after = r"(?!\w)" if last.isalnum() and not UNSPACED.match(last) else ""
    return before + (f"(?i:{pattern})" if term == term.lower() else pattern) + after
