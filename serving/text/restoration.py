"""Protected spans put back into a translation, each exactly once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

from serving.text.edits import Edit
from serving.text.reading import STAND_IN, StandIn
from serving.text.words import Span

_DIGIT = re.compile(r"\d")


def restoring_edits(
    target: str, stand_ins: Sequence[StandIn], attending: Callable[[StandIn], Span | None]
) -> tuple[list[Edit], bool]:
    """Return the edits that put each span in the place of its number.

    Args:
        target: The translation.
        stand_ins: What stood in the source.
        attending: Returns the first words of the translation that attend to a stand-in, where there are any.

    Returns:
        The edits in order, and whether a span had to be appended because nothing tells its place. A number that the
        translation repeats is taken out.
    """
    edits, waiting = numbered_edits(target, stand_ins)
    appended = []
    for stand_in in waiting:
        place = attending(stand_in)
        if place is None or any(edit.start < place[1] and place[0] < edit.end for edit in edits):
            appended.append(stand_in)
        elif _DIGIT.search(target, *place):
            edits.append(Edit(*place, stand_in.text))
        else:
            edits.append(Edit(place[1], place[1], " " + stand_in.text))
    edits.sort(key=attrgetter("start", "end"))
    if appended:
        edits.append(Edit(len(target), len(target), "".join(" " + stand_in.text for stand_in in appended)))
    return edits, bool(appended)


def numbered_edits(target: str, stand_ins: Sequence[StandIn]) -> tuple[list[Edit], list[StandIn]]:
    """Return the edits, in order, that put spans in the place of their numbers, and the stand-ins without one."""
    waiting: dict[int, deque[StandIn]] = {}
    for stand_in in stand_ins:
        waiting.setdefault(int(stand_in.number), deque()).append(stand_in)
    edits: list[Edit] = []
    for match in STAND_IN.finditer(target):
        of_number = waiting.get(int(match.group()))
        if of_number is None:
            continue
        found = of_number.popleft() if of_number else None
        # Spaces that were added go again, and one goes with a number that is taken out.
        before = target[max(match.start() - 1, 0) : match.start()] == " " and (found is None or found.space_before)
        after = target.startswith(" ", match.end()) and found is not None and found.space_after
        start = max(match.start() - before, edits[-1].end if edits else 0)
        edits.append(Edit(start, match.end() + after, found.text if found else ""))
    return edits, list(chain.from_iterable(waiting.values()))
