"""Glossaries of requests, over the toy model: it copies, so that every term must be forced upon it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.messages import GlossaryEntry, Options, Sampling
from tests.unit.serving.engine.toy_engine import tokenizer
from tests.unit.serving.engine.toy_translator import TEXT, Served, served, violations


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


@pytest.mark.parametrize("beam", [1, 4])
def test_terms_are_in_the_translation_and_told(copy: Served, beam: int) -> None:
    glossary = (GlossaryEntry("milk", "eau"), GlossaryEntry("train station", "gare"), GlossaryEntry("absent", "x"))
    text = "I drink milk, and it is cold. Where is the train station?"
    (translation,) = copy.translate(text, glossary=glossary, beam_size=beam)
    assert [(use.entry, use.wanted, use.used) for use in translation.terms] == [(0, 1, 1), (1, 1, 1)]
    assert "eau" in translation.text.lower()
    assert "gare" in translation.text.lower()


def test_a_protected_span_has_no_terms_and_other_texts_are_as_before(copy: Served) -> None:
    glossary = (GlossaryEntry("cat", "chat"),)
    texts = ("See {cat} now.", TEXT, "I drink milk.")
    translations = copy.translate(*texts, glossary=glossary, beam_size=4)
    assert translations[0].text == texts[0]
    assert translations[0].terms == ()
    assert translations[1].terms[0].used == 1
    assert translations[2] == copy.translate(texts[2], beam_size=4)[0]


def test_what_cannot_be_spelt_is_told_as_not_used(copy: Served) -> None:
    (translation,) = copy.translate("The cat sat.", glossary=(GlossaryEntry("cat", "chat\u200b"),), beam_size=2)
    assert [(use.wanted, use.used) for use in translation.terms] in ([(1, 0)], [(1, 1)])
    assert tokenizer().spellings("gare")


def test_bad_glossaries(copy: Served) -> None:
    found = violations(copy, TEXT, glossary=(GlossaryEntry(" ", "x"), GlossaryEntry("a", ""), GlossaryEntry("a", "b")))
    assert found.keys() == {"glossary[0].source", "glossary[1].target", "glossary[2].source"}
    assert violations(copy, TEXT, glossary=(GlossaryEntry("a", "b"),), beam_size=1, sampling=Sampling()).keys() == {
        "glossary"
    }
    many = tuple(GlossaryEntry(f"term {number}", "x") for number in range(1001))
    assert "1001" in violations(copy, TEXT, glossary=many)["glossary"]
    assert Options().glossary == ()
