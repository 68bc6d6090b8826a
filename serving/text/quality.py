"""Signs that a translation may be wrong, cheap enough to look for in every one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from serving.messages import QualityFlag

_NUMBER = re.compile(r"\d+(?:[.,:'\u2019]\d+|[ \u00a0\u202f]\d{3}(?!\d))*")
_SEPARATOR = re.compile(r"\D")
_LONGEST_LOOP = 8  # tokens
_TURNS = 4
_LENGTH_FACTOR, _LENGTH_SPARE = 2, 12  # tokens


def quality_flags(source: str, target: str, source_tokens: int, target_tokens: Sequence[int]) -> Iterator[QualityFlag]:
    """Yield what is odd about the translation of one part of a text."""
    if (found := numbers(source)) != numbers(target):
        yield QualityFlag.NUMBERS_DIFFER
    if loops(target_tokens):
        yield QualityFlag.REPETITION
    # Grouped numbers are rewritten in what was copied too.
    copied = source == target or (found and _NUMBER.sub("0", source) == _NUMBER.sub("0", target))
    if copied and source.count(" ") > 1:
        yield QualityFlag.COPIED_SOURCE
    ours, theirs = len(target_tokens), source_tokens
    if max(ours, theirs) > _LENGTH_FACTOR * min(ours, theirs) + _LENGTH_SPARE:
        yield QualityFlag.LENGTH_RATIO


def numbers(text: str) -> list[str]:
    """Return the digits of each number of a text, sorted; how they are grouped and pointed does not matter."""
    return sorted(_SEPARATOR.sub("", number) for number in _NUMBER.findall(text))


def loops(tokens: Sequence[int]) -> bool:
    """Return whether a run of tokens follows itself again and again."""
    return loop_start(tokens) is not None


def loop_start(tokens: Sequence[int]) -> int | None:
    """Return where a run of tokens begins to follow itself again and again, or None."""
    if len(tokens) < 2 * _TURNS - 1 or len(set(tokens)) > len(tokens) - 2 * (_TURNS - 1):
        return None
    return min((start for start, end, period in _repeats(tokens) if _is_loop(start, end, period)), default=None)


def settled_before_loop(tokens: Sequence[int]) -> int:
    """Return how many of the first tokens of a translation lie before every loop, whatever follows them."""
    return min(
        (start for start, end, period in _repeats(tokens) if end == len(tokens) or _is_loop(start, end, period)),
        default=len(tokens),
    )


def _repeats(tokens: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and period of every run of tokens that are those of some places before."""
    for period in range(1, _LONGEST_LOOP + 1):
        start = period
        for place in range(period, len(tokens)):
            if tokens[place] != tokens[place - period]:
                if start < place:
                    yield start, place, period
                start = place + 1
        if start < len(tokens):
            yield start, len(tokens), period


def _is_loop(start: int, end: int, period: int) -> bool:
    return end - start >= max(period * (_TURNS - 1), 2 * _TURNS - 2)
