"""Capitals and titles become sentences, and their translations capitals and titles."""

from __future__ import annotations

import pytest

from serving.text.casing import Case, case_of, lowered, raised

NAMES = {"Tom", "London", "I"}


def length(word: str) -> int:
    """Names have fewer tokens with a capital."""
    return 2 - (word in NAMES)


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("WHERE IS THE HOSPITAL?", Case.CAPITALS),
        ("HOSPITAL", Case.CAPITALS),
        ("NATO", Case.SENTENCE),
        ("ГДЕ БОЛЬНИЦА?", Case.CAPITALS),
        ("The Quick Brown Fox of the North", Case.TITLE),
        ("The quick brown fox of the north", Case.SENTENCE),
        ("Barack Obama", Case.SENTENCE),
        ("Tom met Mary in New York.", Case.SENTENCE),
        ("The Quick (And Brown) Fox Of The North-west.", Case.WORDS),
        ("NATO, UNESCO, WHO, FAO and IAEA", Case.SENTENCE),
        ("我喜欢 你好吗 我喜欢 你好吗 他们好", Case.SENTENCE),
        ("你好", Case.SENTENCE),
        ("731, 942", Case.SENTENCE),
        ("", Case.SENTENCE),
    ],
)
def test_the_case_of_a_text(text: str, case: Case) -> None:
    assert case_of(text) is case


@pytest.mark.parametrize(
    ("text", "language", "sentence"),
    [
        ("I SAW TOM IN LONDON, DIDN'T I?", "en", "I saw Tom in London, didn't I?"),
        ("The Quick Brown Fox", "en", "The quick brown fox"),
        ("ISPARTA İYİ MI", "tr", "Isparta iyi mı"),
        ("İİİ", "en", "İİİ"),
        ("731 FILES", "en", "731 Files"),
    ],
)
def test_lowering_keeps_the_length_and_names(text: str, language: str, sentence: str) -> None:
    assert lowered(text, length, language) == sentence
    assert len(sentence) == len(text)


@pytest.mark.parametrize(
    ("text", "case", "language", "expected"),
    [
        ("Où se trouve l'hôpital ?", Case.CAPITALS, "fr", "OÙ SE TROUVE L'HÔPITAL ?"),
        ("Die Straße", Case.CAPITALS, "de", "DIE STRAẞE"),
        ("iyi", Case.CAPITALS, "tr", "İYİ"),
        ("le petit renard de la forêt", Case.TITLE, "fr", "Le Petit Renard de la Forêt"),
        ("le petit renard de l'île", Case.WORDS, "fr", "Le Petit Renard De L'île"),
        ("As it was", Case.SENTENCE, "en", "As it was"),
    ],
)
def test_raising(text: str, case: Case, language: str, expected: str) -> None:
    assert raised(text, case, language) == expected
