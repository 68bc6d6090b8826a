"""A text with some of its ranges replaced, and the way from positions in one to positions in the other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A replacement of the characters ``start`` .. ``end``, end exclusive."""

    start: int
    end: int
    text: str


class EditedText:
    """A text after edits.

    Attributes:
        text: The text after them.
    """

    def __init__(self, original: str, edits: Iterable[Edit] = ()) -> None:
        """Apply edits, which are in order and do not overlap."""
        pieces, position, length = [], 0, 0
        self._old: tuple[list[int], list[int]] = [], []
        self._new: tuple[list[int], list[int]] = [], []
        for edit in edits:
            pieces += [original[position : edit.start], edit.text]
            start = length + edit.start - position
            length, position = start + len(edit.text), edit.end
            for ends, begin, end in ((self._old, edit.start, edit.end), (self._new, start, length)):
                ends[0].append(begin)
                ends[1].append(end)
        self.text = "".join([*pieces, original[position:]]) if pieces else original

    def __bool__(self) -> bool:
        """Return whether there are any edits."""
        return bool(self._old[0])

    def after(self, begin: int, end: int) -> tuple[int, int]:
        """Return where a range of the original lies after the edits; an edit that it touches belongs to it whole."""
        return _moved(begin, end, self._old, self._new)

    def before(self, begin: int, end: int) -> tuple[int, int]:
        """Return where a range of the edited text lay in the original; an edit that it touches belongs to it whole."""
        return _moved(begin, end, self._new, self._old)


def _moved(
    begin: int, end: int, here: tuple[list[int], list[int]], there: tuple[list[int], list[int]]
) -> tuple[int, int]:
    if not here[0]:
        return begin, end
    index = bisect_right(here[0], begin) - 1
    if index < 0:
        moved = begin
    elif begin < here[1][index]:
        moved = there[0][index]
    else:
        moved = begin - here[1][index] + there[1][index]
    if begin == end:
        return moved, moved
    index = bisect_left(here[0], end) - 1
    if index < 0:
        return moved, end
    return moved, there[1][index] if end <= here[1][index] else end - here[1][index] + there[1][index]
