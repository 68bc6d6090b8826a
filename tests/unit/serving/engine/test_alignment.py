"""Token alignments become links between words."""

from __future__ import annotations

import pytest

from serving.engine.alignment import word_links
from serving.text.words import Aligned, word_spans


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("I drink milk.", ["I", "drink", "milk", "."]),
        ("\u00ab L'eau \u00bb, dit-il...", ["\u00ab", "L'eau", "\u00bb", ",", "dit-il", ".", ".", "."]),
        ("(3.14)", ["(", "3.14", ")"]),
        ("cafe\u0301 \u0928\u092e\u0938\u094d\u0924\u0947", ["cafe\u0301", "\u0928\u092e\u0938\u094d\u0924\u0947"]),
        ("iPhone\u3092\u8cb7\u3046\u3002", ["iPhone", "\u3092", "\u8cb7", "\u3046", "\u3002"]),
        ("?!", ["?", "!"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


SOURCE, SOURCE_SPANS = "I drink milk.", [(0, 0), (0, 1), (1, 7), (7, 11), (11, 12), (12, 13), (13, 13)]
TARGET, TARGET_SPANS = "Je bois du lait.", [(0, 2), (2, 5), (5, 7), (7, 10), (10, 15), (15, 16)]


def linked(alignment: list[int]) -> list[tuple[str, str]]:
    spans = [SOURCE_SPANS[position] for position in alignment]
    return [
        (TARGET[link.target_start : link.target_end], SOURCE[link.source_start : link.source_end])
        for link in word_links(Aligned(SOURCE, TARGET, list(zip(spans, TARGET_SPANS, strict=True))))
    ]


def test_links_join_words_not_tokens() -> None:
    expected = [("Je", "I"), ("bois", "drink"), ("du", "milk"), ("lait", "milk"), (".", ".")]
    assert linked([1, 2, 2, 3, 4, 5]) == expected


def test_a_token_of_no_width_stands_for_the_character_it_is_part_of() -> None:
    assert linked([0, 0, 0, 0, 0, 0])[0] == ("Je", "I")


def test_the_end_token_links_nothing() -> None:
    assert linked([6] * 6) == []


def test_each_pair_is_named_once_in_order() -> None:
    assert linked([5, 3, 1, 1, 1, 1]) == [
        ("Je", "."),
        ("bois", "I"),
        ("bois", "milk"),
        ("du", "I"),
        ("lait", "I"),
        (".", "I"),
    ]


def test_a_token_over_several_words_stands_for_all_of_them() -> None:
    (link,) = word_links(Aligned("a b", "c", [((0, 3), (0, 1))]))
    assert (link.source_start, link.source_end) == (0, 3)


def test_nothing_links_nothing() -> None:
    assert word_links(Aligned("a", "", [])) == ()
