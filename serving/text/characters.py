"""Unicode: composed characters in and out, and none that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import takewhile

from serving.text.edits import Edit

# Soft hyphen, zero-width space, marks of direction, joiners, invisible operators, byte order mark, variation selectors,
# tags. Between letters of scripts that join, such as Arabic and Devanagari, the joiners are spelling and stay.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e007f]|(?<![\u0600-\u08ff\u0900-\u0fff\u1000-\u109f\u1780-\u18af])[\u200c\u200d]"
)
# Normalisation changes nothing across the borders of these; white space it leaves alone.
_CLUSTER = re.compile(r"[\x00-\x7f]?[^\x00-\x7f\s]+")


def visible(text: str) -> str:
    """Return a text without the characters that cannot be seen."""
    return _INVISIBLE.sub("", text)


def composing_edits(text: str) -> list[Edit]:
    """Return the edits that put a text into normalisation form C."""
    return [] if unicodedata.is_normalized("NFC", text) else list(_edits(text, 0, len(text), clean=False))


def cleaning_edits(text: str, start: int, end: int) -> Iterator[Edit]:
    """Yield the edits that put a range into normalisation form C, without the characters that cannot be seen."""
    return _edits(text, start, end, clean=True)


def _edits(text: str, start: int, end: int, *, clean: bool) -> Iterator[Edit]:
    def changed(old: str) -> str:
        return unicodedata.normalize("NFC", visible(old) if clean else old)

    for cluster in _CLUSTER.finditer(text, start, end):
        if changed(cluster.group()) == cluster.group():
            continue
        position = cluster.start()
        for old in _letters(cluster.group()):
            if (new := changed(old)) != old:
                head = _shared(old, new)
                tail = _shared(old[head:][::-1], new[head:][::-1])
                yield Edit(position + head, position + len(old) - tail, new[head : len(new) - tail])
            position += len(old)


def joins(character: str) -> bool:
    """Return whether a character belongs to the one before it: a mark, a vowel of Hangul, or an invisible one."""
    category = unicodedata.category(character)
    return category[0] == "M" or category == "Cf" or "\u1160" <= character <= "\u11ff"


def _letters(text: str) -> Iterator[str]:
    """Yield each character with the marks, vowels of Hangul and invisible characters that follow it."""
    start = 0
    for position in range(1, len(text)):
        character = text[position]
        if not joins(character):
            yield text[start:position]
            start = position
    yield text[start:]


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
