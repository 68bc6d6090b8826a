"""Terms found in texts."""

from __future__ import annotations

from serving.messages import GlossaryEntry
from serving.text.glossary import TermFinder, spellings_in_case


def found(text: str, *sources: str, any_case: bool = False) -> dict[str, int]:
    glossary = TermFinder([GlossaryEntry(source, "x") for source in sources])
    return {sources[entry]: count for entry, count in glossary.found(text, any_case=any_case).items()}


def test_terms_are_whole_words() -> None:
    assert found("The cat and the catalogue, a cat.", "cat") == {"cat": 2}
    assert found("l'eau, (eau) eaux", "eau") == {"eau": 2}
    assert found("C++ and C", "C++") == {"C++": 1}
    assert found("这是苹果吗", "苹果") == {"苹果": 1}


def test_case_counts_where_a_term_has_capitals() -> None:
    assert found("Apple makes an apple", "apple", "Apple") in ({"apple": 1, "Apple": 1}, {"apple": 2})
    assert found("an apple", "Apple") == {}
    assert found("AN APPLE", "apple") == {"apple": 1}
    assert found("an apple", "Apple", any_case=True) == {"Apple": 1}


def test_the_longest_of_overlapping_terms_counts() -> None:
    assert found("a bank account at the bank", "bank", "bank account") == {"bank account": 1, "bank": 1}
    assert found("bank \n account", "bank account") == {"bank account": 1}


def test_use_in_a_translation() -> None:
    glossary = TermFinder([GlossaryEntry("x", "pomme de terre"), GlossaryEntry("y", "Paris")])
    assert glossary.used(0, "Pomme de terre, pommes de terre") == 1
    assert glossary.used(1, "paris, Paris") == 1


def test_spellings_at_the_beginning_of_a_sentence() -> None:
    assert spellings_in_case("pomme  de terre") == ("pomme de terre", "Pomme de terre")
    assert spellings_in_case("Paris") == ("Paris",)
