"""Signs that a translation may be wrong."""

from __future__ import annotations

import pytest

from serving.messages import QualityFlag
from serving.text.quality import numbers, quality_flags


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
