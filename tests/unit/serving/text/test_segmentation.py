"""Splitting a long text loses nothing, keeps within the limit, and prefers sentence borders."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.text import segmentation
from serving.text.segmentation import join, sentence_borders, sentences, split
from tests.unit.serving.engine.toy_engine import tokenizer

SENTENCES = "The cat sat on the mat. Where is the train station? I drink milk, and the dog drinks water. "
LETTERS = st.sampled_from(
    [*"ab .,;!?\n\r\t'\"()", "Dr. ", "e\u0301", "\u00a0", "\u3000", "\u3002", "\x85", "\u2028", "\U0001f468"]
)


def parts_of(text: str, limit: int) -> list[str]:
    return [text[part.start : part.end] for part in split(text, limit=limit, tokenizer=tokenizer(), language="en")]


@given(st.lists(LETTERS, max_size=120).map("".join), st.integers(6, 40))
@settings(deadline=None, max_examples=200)
def test_parts_and_the_white_space_between_them_are_the_text(text: str, limit: int) -> None:
    parts = split(text, limit=limit, tokenizer=tokenizer(), language="en")
    assert (
        join(text, [(part.start, part.end) for part in parts], [text[part.start : part.end] for part in parts])[0]
        == text
    )
    position = 0
    for part in parts:
        assert not text[position : part.start].strip()
        assert text[part.start : part.end].strip() == text[part.start : part.end] != ""
        assert tokenizer().count(text[part.start : part.end]) <= limit or part.end == part.start + 1
        position = part.end
    assert not text[position:].strip()


@pytest.mark.parametrize("limit", [40, 60, 100])
def test_parts_are_whole_sentences_as_many_as_fit(limit: int) -> None:
    parts = parts_of(SENTENCES * 10, limit)
    assert all(part[-1] in ".?" for part in parts)
    for one, following in itertools.pairwise(parts):
        first_sentence = following[: following.index(next(c for c in following if c in ".?")) + 1]
        assert tokenizer().count(f"{one} {first_sentence}") > limit


def test_a_line_break_always_separates() -> None:
    text = "A cat.\nA dog.\r\n\n  A man.\n" + SENTENCES * 3
    assert parts_of(text, 200)[:3] == ["A cat.", "A dog.", "A man."]


@pytest.mark.parametrize("gap", ["  ", "\t", "\u00a0", "\u3000", " \u2003 "])
def test_white_space_that_a_model_would_not_keep_separates_sentences(gap: str) -> None:
    assert parts_of(f"A cat sat. I drink milk.{gap}A dog ran. {SENTENCES}", 60)[:2] == [
        "A cat sat. I drink milk.",
        "A dog ran. The cat sat on the mat. Where is the train station?",
    ]


def test_a_long_sentence_is_cut_at_a_clause_border_else_between_words() -> None:
    clause = "a man in a blue shirt, " * 6 + "sat."
    assert all(part.endswith((",", "sat.")) for part in parts_of(clause, 40))
    words = "cat dog " * 40
    assert {word for part in parts_of(words, 20) for word in part.split()} == {"cat", "dog"}


def test_one_endless_word_is_cut_between_tokens() -> None:
    parts = parts_of("catdog" * 500, 50)
    assert "".join(parts) == "catdog" * 500
    assert all(tokenizer().count(part) <= 50 for part in parts)
    assert len(parts) < 500


def test_a_character_of_more_tokens_than_the_limit_stays_whole() -> None:
    assert parts_of("\U0001f468\U0001f468", 2) == ["\U0001f468", "\U0001f468"]


def test_sentences_of_another_script() -> None:
    text = "\u732b\u304c\u3044\u307e\u3059\u3002" * 20
    parts = split(text, limit=60, tokenizer=tokenizer(), language="ja")
    assert all(text[part.end - 1] == "\u3002" for part in parts)


def found(text: str) -> list[str]:
    return [text[part.start : part.end] for part in sentences(text, "en")]


def test_every_sentence_of_every_line() -> None:
    text = "  The cat sat. Where is it?\n\n\tDr. Smith came at 5 p.m. today.\r\nYes"
    assert found(text) == ["The cat sat.", "Where is it?", "Dr. Smith came at 5 p.m. today.", "Yes"]


def test_columns_are_sentences_and_a_no_break_space_is_part_of_one() -> None:
    assert found("Name\tAge   City\u3000Job") == ["Name", "Age", "City", "Job"]
    assert found("It is 10\u00a0km.") == ["It is 10\u00a0km."]


@given(st.lists(LETTERS, max_size=60).map("".join))
@settings(deadline=None, max_examples=200)
def test_sentences_hold_all_that_is_not_white_space(text: str) -> None:
    assert "".join("".join(found(text)).split()) == "".join(text.split())


def test_joining_tells_where_each_translation_begins() -> None:
    text = "  One. \n\n Two.\n"
    joined, starts = join(text, [(2, 6), (10, 14)], ["Premier.", "Deux."])
    assert (joined, starts) == ("  Premier. \n\n Deux.\n", [2, 14])


def test_borders_are_the_same_however_the_text_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SENTENCES * 20
    whole = sentence_borders(text, "en")
    assert len(whole) == 59
    monkeypatch.setattr(segmentation, "_BLOCK", 130)
    assert sentence_borders(text, "en") == whole


@pytest.mark.parametrize("language", ["en", "pt-BR", "zh-Hans", "xx"])
def test_any_language_tag_will_do(language: str) -> None:
    assert sentence_borders("It is. It was.", language) == [7]


def test_white_space_that_sentencex_panics_on_is_no_harm() -> None:
    assert parts_of("Yes D.\u00a0.\u2028D\u3000. No. " * 5, 20)


def test_a_panic_makes_one_sentence_and_nothing_else_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def raising(error: BaseException) -> None:
        def boundaries(language: str, text: str) -> None:
            raise error

        monkeypatch.setattr("serving.text.segmentation.sentencex.get_sentence_boundaries", boundaries)

    raising(PanicException())
    assert sentence_borders("It is. It was.", "en") == []
    raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        sentence_borders("It is. It was.", "en")
