import pytest

from serving.text.detection import detect

TEXTS = {
    "en": "Where is the nearest hospital, please?",
    "fr": "Où est la gare la plus proche ?",
    "de": "Wo ist bitte das nächste Krankenhaus?",
    "el": "Πού είναι το νοσοκομείο;",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_sentence_is_told_from_others(language: str) -> None:
    ranked = detect(TEXTS[language], TEXTS)
    assert ranked[0][0] == language
    assert ranked[0][1] > 0.9
    assert {tag for tag, _ in ranked} == set(TEXTS)
    assert sum(chance for _, chance in ranked) == pytest.approx(1)


def test_only_what_is_possible_is_found() -> None:
    assert detect(TEXTS["fr"], ["en"]) == [("en", 1.0)]
    assert {tag for tag, _ in detect(TEXTS["fr"], ["en", "de"])} == {"en", "de"}
    assert detect(TEXTS["fr"], []) == []


def test_tags_keep_their_form() -> None:
    assert detect(TEXTS["en"], ["en-GB", "fr-CA"])[0][0] == "en-GB"


def test_a_text_that_says_nothing_leaves_it_open() -> None:
    assert [chance for _, chance in detect("12", ["en", "fr"])] == pytest.approx([0.5, 0.5])


def test_a_language_without_a_model_does_not_hide_the_others() -> None:
    assert detect(TEXTS["fr"], ["fr", "tlh"]) == [("fr", 1.0)]
