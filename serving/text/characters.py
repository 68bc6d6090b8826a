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
_CLUSTER = re.compile("[\x00-\x7f]?[^\x00-\x7f]+")  # normalisation changes nothing across the borders of these


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
    for match in _CLUSTER.finditer(text, start, end):
        old = match.group()
        new = unicodedata.normalize("NFC", visible(old) if clean else old)
        if new == old:
            continue
        head = _shared(old, new)
        tail = _shared(old[head:][::-1], new[head:][::-1])
        yield Edit(match.start() + head, match.end() - tail, new[head : len(new) - tail])


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
