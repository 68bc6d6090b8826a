"""What is found in texts that must come back as it is, and what is left to the model."""

from __future__ import annotations

import re

import pytest

from serving.text.protection import is_plain, protected_spans, term_pattern

PROTECTED = [
    "See [https://example.com/a_b?x=1&y=2#z].",
    "It is at [http://localhost:8080/metrics], I think.",
    "Look (at [https://en.wikipedia.org/wiki/Dragoman_(interpreter)]), please.",
    "Go to [www.example.org] or [example.co.uk/shop]!",
    "Fetch [ftp://files.example.net/pub/x.tar.gz] now.",
    "Write to [jane.doe+news@mail.example.com].",
    "Ask [@tom_baker] about [#translation].",
    "Hello [{name}], you have [{0}] of [{{ total }}].",
    "From [<<first date>>] to [<<date>>], see [｟7｠].",
    "Ask [192.168.0.1], or [10.0.0.1:8080] in [10.0.0.0/8].",
    "Use [${HOME}], [%{count}], [#{user.name}] and [$PATH].",
    "Copied [%s] files of [%d], [%1$s], [%2$d], [%5.2f], [%(name)s], [%@] and [%@].",
    "[{count, plural, one {# file} other {# files}}] deleted.",
    "[{who, select, male {He has {n, number} cats} other {They}}] here.",
    "Type [`rm -rf *`] and [``a ` b``].",
    "Run [```\nmake all\n```] first.",
    "Open [/etc/hosts] and [~/notes.txt] and [./run/me] and [../up].",
    "In [C:\\Users\\me\\file.txt] and [\\\\server\\share\\x].",
    "Read [src/main.py], [README.md] and [report-2024.pdf].",
    "请看[https://example.com/a]。联系[me@example.org]或[@tom]，谢谢",
    "Great [👍], thanks [🇫🇷🇩🇪] and [👨‍👩‍👧‍👦] or [❤️] [1️⃣].",
]
PLAIN = [
    "A man in a blue shirt is standing on a ladder.",
    "Don’t you think so? “Yes”, she said — of course…",
    "It costs 3,406,118 dollars (or more): 7 at most.",
    "He left at 5 p.m. on Monday.",
    "Où est la gare ? Là-bas.",
]
LEFT_ALONE = [
    "100% sure, and 50% a day, 5 % of it",
    "either and/or both, 24/7, on 1/2/2024",
    "R&D at AT&T costs $5 or $US 7",
    "The U.S.A. and e.g. this.That",
    "a {set of things} in braces",
    "C# and no. #5",
    "3.14 is pi; v2.0 is out",
    "version 1.2.3.4.5 and a << b >> c",
]


@pytest.mark.parametrize("marked", PROTECTED)
def test_spans_are_found_and_nothing_else(marked: str) -> None:
    text = re.sub(r"[\[\]]", "", marked)
    inside = re.findall(r"\[(.*?)\]", marked, re.DOTALL)
    spans = protected_spans(text, frozenset())
    assert [text[span.start : span.end] for span in spans] == inside
    assert not is_plain(text)


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_known_at_a_glance(text: str) -> None:
    assert is_plain(text) or "." in text
    assert protected_spans(text, frozenset()) == []


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_special_is_left_to_the_model(text: str) -> None:
    assert protected_spans(text, frozenset()) == []


def test_words_with_unknown_letters_and_unknown_symbols() -> None:
    text = "Erdős said 你好 to Bob • now"
    spans = protected_spans(text, frozenset("ő你好•"))
    assert [(text[span.start : span.end], span.symbol) for span in spans] == [
        ("Erdős", False),
        ("你好", False),
        ("•", True),
    ]


def test_without_spaces_only_the_unknown_characters_count() -> None:
    text = "我喜欢龘字"
    assert [text[span.start : span.end] for span in protected_spans(text, frozenset("龘"))] == ["龘"]


def test_spans_that_touch_are_one() -> None:
    text = "{a}{b}\u200b👍"
    (span,) = protected_spans(text, frozenset())
    assert (span.start, span.end, span.symbol) == (0, len(text), False)


@pytest.mark.parametrize(
    ("terms", "text", "found"),
    [
        (("Blue", "Blue Mat"), "A Blue Mat, Blue, Blues and blue", ["Blue Mat", "Blue"]),
        (("C++", ".NET"), "C++11 and .NET", ["C++", ".NET"]),
        (("京都",), "東京都", ["京都"]),
        (("a.b",), "axb a.b", ["a.b"]),
    ],
)
def test_terms_stand_by_themselves(terms: tuple[str, ...], text: str, found: list[str]) -> None:
    pattern = term_pattern(terms)
    assert pattern
    assert pattern.findall(text) == found
    marked = [match.span() for match in pattern.finditer(text)]
    spans = protected_spans(text, frozenset(), marked, search=False)
    assert [text[span.start : span.end] for span in spans] == found


def test_there_is_no_pattern_of_no_terms() -> None:
    assert term_pattern(()) is None
