"""Signs that a translation may be wrong."""

from __future__ import annotations

import random

import pytest

from serving.messages import QualityFlag
from serving.text.quality import loop_start, numbers, quality_flags, settled_before_loop


@pytest.mark.parametrize(
    ("source", "target", "tokens", "flags"),
    [
        ("I have 3,406,118 cats.", "J'ai 3 406 118 chats.", range(10), set()),
        ("It costs 3.50 at 5:30.", "Cela coûte 3,50 à 5:30.", range(10), set()),
        ("I have 3,406,118 cats.", "J'ai 3 406,18 chats.", range(10), {QualityFlag.NUMBERS_DIFFER}),
        ("A cat.", "Un chat un chat un chat un chat", [5, 6] * 4, {QualityFlag.REPETITION}),
        ("A cat.", "nananananana", [7] * 7, {QualityFlag.REPETITION}),
        ("A cat, a dog, a cow.", "Un chat, un chien, une vache.", [1, 2, 3, 1, 4, 3, 1, 5, 6], set()),
        ("This is the text.", "This is the text.", range(10), {QualityFlag.COPIED_SOURCE}),
        ("All 40,000 of them.", "All 40\u202f000 of them.", range(10), {QualityFlag.COPIED_SOURCE}),
        ("All 40,000 of them.", "Les 40\u202f000.", range(10), set()),
        ("Paris", "Paris", range(10), set()),
        ("A cat.", "Un chat.", range(40), {QualityFlag.LENGTH_RATIO}),
    ],
)
def test_flags(source: str, target: str, tokens: list[int], flags: set[QualityFlag]) -> None:
    assert set(quality_flags(source, target, 10, tuple(tokens))) == flags


def test_a_text_that_all_but_vanishes_is_flagged() -> None:
    assert list(quality_flags("word", "mot", 40, (1,))) == [QualityFlag.LENGTH_RATIO]


def test_numbers_of_several_scripts() -> None:
    assert numbers("12 000 and 7, 8") == ["12000", "7", "8"]


@pytest.mark.parametrize(
    ("tokens", "start", "settled"),
    [
        ([], None, 0),
        ([1, 2, 3, 4], None, 4),
        ([1, 2, 3, 2], None, 3),  # 2 3 may follow 2 3 again and again
        ([1, 2, 3, 2, 4], None, 5),
        ([1, 2, 3, 2, 3, 2, 3, 2, 3], 3, 3),
        ([1, 2, 3, 2, 3, 2, 3, 2, 3, 4, 5], 3, 3),
        ([7, *range(8, 17), 7], None, 11),  # further apart than any loop
    ],
)
def test_where_a_loop_begins(tokens: list[int], start: int | None, settled: int) -> None:
    assert loop_start(tokens) == start
    assert settled_before_loop(tokens) == settled


def test_what_is_settled_stays_so() -> None:
    rng = random.Random(1)
    for _ in range(300):
        tokens = [rng.randrange(3) for _ in range(40)]
        settled = [settled_before_loop(tokens[:end]) for end in range(41)]
        assert settled == sorted(settled)
        assert settled[-1] <= (40 if (start := loop_start(tokens)) is None else start)
