"""What is told of a translation before its end is how it begins, whatever the tokens."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.postprocessing import finished_part
from serving.engine.settled_text import settled_text
from serving.messages import FinishReason
from serving.text.reading import Reading, in_sentence_case
from tests.unit.serving.engine.toy_engine import tokenizer

TOKENIZER = tokenizer()
SOURCES = [
    "The cat sat on the mat.",
    "See https://a.example/b now, {name}: {name}!",
    "WHERE IS THE TRAIN STATION?",
    "Where Is The Train Station Today",
    "SEND {x} TO a@b.example AND %s",
    "There were 3,406,118 people in 40,000 houses.",
]
texts = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            ["731", "942", " 731 ", "583", ".", " ", "\u0301", "e", "straße", "L'eau", "中文", "が", "か\u3099"]
        ),
        max_size=8,
    ).map("".join),
)


def told(source: str, target: str, positions: list[int], language: str = "fr") -> tuple[list[str], str]:
    """What is told after each token of a translation, and the whole."""
    reading = Reading(source, TOKENIZER.unknown, languages=("en", language))
    part = in_sentence_case(reading.part(0, len(reading.text)), TOKENIZER.count, "en")
    encoded = TOKENIZER.encode(part.text)
    tokens = TOKENIZER.encode_prefix(target)
    alignment = tuple(positions[i % len(positions)] % len(encoded.ids) for i in range(len(tokens)))
    pairs = list(zip(tokens, alignment, strict=True))
    beginnings = [settled_text(part, encoded, pairs[:size], TOKENIZER, language) for size in range(len(tokens) + 1)]
    hypothesis = FinishedHypothesis(tokens, (), alignment, 0.0, FinishReason.EOS)
    return beginnings, finished_part(part, encoded, hypothesis, TOKENIZER, language).text


@settings(max_examples=150, deadline=None)
@given(source=st.sampled_from(SOURCES), target=texts, positions=st.lists(st.integers(0, 40), min_size=1, max_size=9))
@example(SOURCES[1], "Voir 731 731 puis 942 : 583", [0])
@example(SOURCES[1], "Voir ceci, nom : 583", [3, 4])
@example(SOURCES[3], "où est la gare aujourd'hui l'eau", [0])
@example(SOURCES[2], "straße e\u0301te\u0301", [0])
def test_nothing_is_taken_back(source: str, target: str, positions: list[int]) -> None:
    beginnings, whole = told(source, target, positions)
    for shorter, longer in zip(beginnings, [*beginnings[1:], whole], strict=True):
        assert longer.startswith(shorter)


def test_letters_are_told_at_once() -> None:
    beginnings, whole = told(SOURCES[0], "Le chat dort.", [0])
    assert whole == "Le chat dort."
    assert len(beginnings[-1]) == len(whole) - 1
    assert len(set(beginnings)) > 4


def test_bytes_are_told_as_characters() -> None:
    beginnings, whole = told(SOURCES[0], "\U0001f600\U0001f601", [0])
    assert whole == "\U0001f600\U0001f601"
    assert set(beginnings) == {"", "\U0001f600"}


def test_a_span_that_waits_for_its_number_holds_back_the_words_that_attend_to_it() -> None:
    source = "See https://a.example/b now."
    number = next(position for position, span in enumerate(TOKENIZER.spans("See 731 now.")) if span[0] >= 3)
    beginnings, whole = told(source, "Voir ici et maintenant enfin.", [0, number])
    assert "https://a.example/b" in whole
    assert all(beginning == "" or whole.startswith(beginning) for beginning in beginnings)
    beginnings, whole = told(source, "Voir 731 maintenant enfin.", [0])
    assert "Voir https://a.example/b maintenant" in beginnings


def test_a_word_in_title_case_is_told_when_it_has_ended() -> None:
    beginnings, whole = told(SOURCES[3], "où est la gare", [0])
    assert whole == "Où Est La Gare"
    assert {beginning.split()[-1] for beginning in beginnings if beginning} <= {"Où", "Est", "La"}
