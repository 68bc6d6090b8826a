"""Numbers with thousands separators: which are found, and how each language writes them."""

from __future__ import annotations

import re

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from babel.numbers import get_decimal_symbol, get_group_symbol

from serving.messages import QualityFlag
from serving.text.edits import EditedText
from serving.text.grouped_numbers import Convention, convention_of, rewritten_numbers
from serving.text.protection import protected_spans
from serving.text.quality import quality_flags
from serving.text.reading import Reading


def rewritten(text: str, source: str, target: str) -> str:
    return EditedText(text, rewritten_numbers(text, source, target)).text


@pytest.mark.parametrize(
    ("source", "target", "number", "expected"),
    [
        ("en", "fr", "3,406,118", "3\u202f406\u202f118"),
        ("en", "fr", "1,234.5", "1\u202f234,5"),
        ("en", "fr-CA", "40,000", "40\u00a0000"),
        ("en", "de", "1,499.95", "1.499,95"),
        ("en", "de-CH", "1,499.95", "1'499.95"),
        ("en", "pt-PT", "40,000.0", "40\u00a0000,0"),
        ("de", "en", "3.406.118,25", "3,406,118.25"),
        ("de-CH", "fr", "40\u2019000.50", "40\u202f000,50"),
        ("de-DE", "fr", "40.000", "40\u202f000"),
        ("fr", "en", "3\u202f406\u202f118,5", "3,406,118.5"),
        ("fr-FR", "de", "40\u00a0000", "40.000"),
        ("ru", "en-GB", "40\u202f000", "40,000"),
        ("en", "hi", "3,406,118.5", "34,06,118.5"),
        ("en", "ta", "123,406,118", "12,34,06,118"),
        ("hi", "en", "34,06,118", "3,406,118"),
        ("en-IN", "fr", "40,000", "40\u202f000"),
        ("fr", "fr-FR", "40\u00a0000", "40\u00a0000"),
        ("en", "zh-Hant-TW", "3,406,118", "3,406,118"),
    ],
)
@pytest.mark.parametrize("around", ["", "They have {} of it.", "({}), -{}; {}, and {}.", "${}%, {}-{}, “{}”"])
def test_numbers_are_written_as_the_target_language_does(
    source: str, target: str, number: str, expected: str, around: str
) -> None:
    text, wanted = (around or "{}").replace("{}", number), (around or "{}").replace("{}", expected)
    assert rewritten(text, source, target) == wanted
    found = [edit.text for edit in rewritten_numbers(text, source, target)]
    assert found == [expected] * len(found)
    assert len(found) == wanted.count(expected)
    assert quality_flags_about_numbers(text, wanted) == set()


def quality_flags_about_numbers(source: str, target: str) -> set[QualityFlag]:
    return set(quality_flags(source, target, 9, range(9))) & {QualityFlag.NUMBERS_DIFFER}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "In 2024, 1984 and 3.14 or 3.406.118 and 40 000 and 40\u00a0000"),
        ("en", "1,2,3 and 12,345,67 and 1,2,345 and 1,234,5678 and 1234,567 and 0,123 and 007,000"),
        ("en", "v1,234 and 1,234m and 40,000th and x_1,234 and 1,234_5 and 1,234.5.6 and 1,234.5,678 and .1,234"),
        ("en", "10.0.0.1 and 1'234 and 1,234'567 and 1'234,567 and 1,234\u00a0567 and 9\u00a01,234"),
        ("en", "40,00 and 40,0000 and 有40,000人 and ٤٠,٠٠٠"),
        ("de", "1,234 and 1.12.2024 and 1.2.345 and 192.168.0.1 and 1.234.567.8 and 3.14 and 1.234,5,6"),
        ("fr", "40 000 and 40,000 and 12\u00a0345\u00a067 and 3\u202f406\u00a0118 and 1234\u00a0567\u00a0890"),
        ("hi", "3,406,118 and 340,618"),
    ],
)
def test_what_may_be_something_else_is_left_to_the_model(language: str, text: str) -> None:
    target = "de" if language != "de" else "en"
    assert rewritten_numbers(text, language, target) == []


def test_a_language_without_a_known_convention_leaves_numbers_to_the_model() -> None:
    assert convention_of("EN-gb") == convention_of("en-Latn-US") == Convention(",", ".")
    assert convention_of("tlh") is convention_of("und") is convention_of("") is None
    assert rewritten_numbers("40,000", "en", "tlh") == rewritten_numbers("40,000", "tlh", "en") == []


def test_conventions_are_those_of_the_cldr_in_every_region() -> None:
    compared = 0
    for identifier in locale_identifiers():
        tag = identifier.replace("_", "-")
        # en-US-POSIX has no groups.
        if (convention := convention_of(tag)) and tag != "en-US-POSIX":
            locale = Locale.parse(identifier)
            group, decimal = get_group_symbol(locale), get_decimal_symbol(locale)
            size = locale.decimal_formats[None].grouping[1]
            assert convention == Convention(group, decimal, size), tag
            compared += 1
    assert compared > 500


def test_a_number_within_another_span_comes_back_with_it() -> None:
    text = "See https://e.com/1,234 or `40,000` and👍40,000 of {a}40,000, 5,000"
    numbers = rewritten_numbers(text, "en", "de")
    spans = protected_spans(text, frozenset(), numbers=numbers)
    assert [span.restored(text) for span in spans] == [
        "https://e.com/1,234",
        "`40,000`",
        "👍40.000",
        "{a}40.000",
        "5.000",
    ]
    assert not any(span.symbol for span in spans)
    address = "192.168.100.100"
    (span,) = protected_spans(address, frozenset(), numbers=rewritten_numbers(address, "de", "en"))
    assert span.restored(address) == address


def test_a_number_of_the_language_is_read_as_a_number_of_three_digits() -> None:
    def read(text: str, **options: object) -> str:
        reading = Reading(text, lambda _: frozenset(), **options)  # type: ignore[arg-type]
        return reading.part(0, len(reading.text)).text

    text = "There were 3,406,118 people in 40,000 houses."
    assert re.sub(r"\b\d{3}\b", "N", read(text, languages=("en", "fr"))) == "There were N people in N houses."
    assert read(text, languages=("en", "fr"), protect=False) == read(text) == text
    assert read(text, languages=("de", "fr")) == text
