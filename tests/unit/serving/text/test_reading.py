"""What a model reads of a text; a translation that copies gives the text again."""

from __future__ import annotations

import os
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.text.casing import raised
from serving.text.edits import EditedText
from serving.text.reading import Reading, in_sentence_case
from serving.text.restoration import restoring_edits
from serving.text.segmentation import join, sentences

EXAMPLES = int(os.environ.get("DRAGOMAN_FUZZ_EXAMPLES", "200"))
PIECES = st.sampled_from(
    [
        *("a", "B", "é", "e\u0301", "ß", "İ", "я", "Ж", "你", "が", "ﬁ", "5", "731", "7", ".", "! ", "? ", ", ", "  "),
        *("\n", "\r\n", "\t", " ", " ", "\u00a0", "\u2028", "\x00", "\u00ad", "\u200b", "\u200d", "\ufeff", "\ufe0f"),
        *(
            "{x}",
            "%s",
            "{{y}}",
            "${Z}",
            "`a b`",
            "https://e.com/a_b?c=d.",
            "me@e.org",
            "/a/b/c.txt",
            "@me",
            "#tag",
            "@",
        ),
        *("3,406,118", "40,000 ", "1,234.5", "\u202f000", ",000"),
        *("👍", "👨‍👩‍👧", "🇫🇷", "•", "- ", "1. ", "(a) ", "HELLO WORLD ", "The Big Brown Bear ", "word ", "\U0010ffff"),
        *(
            "{n, plural, one {#} other {# s}}",
            "{",
            "}",
            "`",
            "%",
            "\\",
            "<b>",
            "\u0644\u200c\u0627",
            "٣",
            "٧٣١ ",
            "\ud800",
        ),
    ]
)


def unknown(text: str) -> frozenset[str]:
    return frozenset(character for character in text if character in "你•@\\")


def copied(text: str) -> str:
    """Does what the engine does, with a model that copies, between languages that write numbers alike."""
    reading = Reading(text, unknown, languages=("en", "ja"))
    found = (reading.language(part.start, part.end) for part in sentences(reading.text, "en"))
    parts = [in_sentence_case(reading.part(one.start, one.end), len, "en") for one in found if one]
    targets = []
    for part in parts:
        target = raised(part.text, part.case, "fr")
        edits, appended = restoring_edits(target, part.stand_ins, lambda _: None)
        assert not appended
        targets.append(EditedText(target, edits).text)
    return join(text, [(part.start, part.end) for part in parts], targets)[0]


def visible(text: str) -> str:
    """The text without what cleaning may take away, composed and without case."""
    seen = "".join(character for character in text if unicodedata.category(character) not in {"Cf", "Mn"})
    return unicodedata.normalize("NFC", seen).casefold()


@given(st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(max_size=60)))
@settings(deadline=None, max_examples=EXAMPLES)
def test_nothing_is_lost_around_a_model_that_copies(text: str) -> None:
    again = copied(text)
    assert visible(unicodedata.normalize("NFC", again)) == visible(unicodedata.normalize("NFC", text))
    assert re.findall(r"\s+", again) == re.findall(r"\s+", text)


@given(st.lists(PIECES, max_size=30).map("".join))
@settings(deadline=None, max_examples=EXAMPLES)
def test_no_part_holds_what_a_model_should_not_see(text: str) -> None:
    reading = Reading(text, unknown)
    for piece in sentences(reading.text, "en"):
        if part := reading.language(piece.start, piece.end):
            read = reading.part(part.start, part.end)
            assert read.text == read.text.strip() != ""
            assert not re.search("[\n\t\u00ad\u200b\ufeff👍🇫]|  |https:|@e|{{y}}", read.text)
            assert len(read.text) == part.end - part.start


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "3,406,118",
        "40,000\n👍 1,234.5 {x}",
        "👍 👍",
        "----",
        "• ◦ ✓",
        "https://example.com",
        "{name} %s",
        "a@b.org, c@d.org",
        "12:30 → 13:45",
    ],
)
def test_what_is_no_language_has_no_part(text: str) -> None:
    reading = Reading(text, unknown)
    assert [piece for piece in sentences(reading.text, "en") if reading.language(piece.start, piece.end)] == []
    assert copied(text) == text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("  - [x] Buy milk 👍", ["Buy milk"]),
        ("1. First.\n2) Second!", ["First.", "Second!"]),
        ("• One\n\t◦ Two", ["One", "Two"]),
        ("Name:\tTom  Baker", ["Name:", "Tom", "Baker"]),
        ("It is 10\u00a0km. Go {who}!", ["It is 10\u00a0km.", "Go 731!"]),
        ("731 of {x} and {y}", ["731 of 942 and 583"]),
        ("See https://a.com/b. Then `a. B` it.", ["See 731.", "Then 731 it."]),
        ("co\u00adop\ufeff Cafe\u0301", ["coop Café"]),
    ],
)
def test_what_the_model_reads(text: str, read: list[str]) -> None:
    reading = Reading(text, unknown)
    found = (reading.language(piece.start, piece.end) for piece in sentences(reading.text, "en"))
    assert [reading.part(one.start, one.end).text for one in found if one] == read


def test_a_text_may_be_left_unprotected() -> None:
    assert Reading("See {x} 👍 co\u00adop", unknown, protect=False).text == "See {x} 👍 coop"
