"""Training and serving agree on what separates words and what is not part of them, over all of Unicode."""

from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pytest

from serving.bundle.manifest import SpecialIds
from serving.bundle.tokenizer import SubwordTokenizer
from training.data.cleaning import clean_text
from training.data.subwords import Subwords, train_subwords
from training.data.words import Words, train_words

IDS = SpecialIds(pad=0, unk=1, bos=2, eos=3, decoder_start=2)
TEXTS = ["the dog runs", "dog", "runs", "dogruns", "a dogs run", "the cat sat on the mat"] * 20

WHITE_SPACE = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
CONTROLS = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Cc", "Cs"} and not character.isspace()
] + ["\u200b", "\ufeff"]


@pytest.fixture(scope="module", params=["nmt_nfkc", "identity", "words"])
def model(request: pytest.FixtureRequest) -> bytes:
    if request.param == "words":
        return train_words(TEXTS, 40)
    return train_subwords(TEXTS, 279, kind="unigram", character_coverage=1.0, normalization=request.param, threads=1)


def serving_tokenizer(model: bytes) -> SubwordTokenizer:
    return SubwordTokenizer(model, model, special_ids=IDS, kind="words" if model.startswith(b"{") else "sentencepiece")


def test_there_is_something_to_compare() -> None:
    assert len(WHITE_SPACE) > 20
    assert len(CONTROLS) > 2_000


@pytest.mark.parametrize(("characters", "meant"), [(WHITE_SPACE, "dog runs"), (CONTROLS, "dogruns")])
def test_both_read_every_character_alike(model: bytes, characters: list[str], meant: str) -> None:
    serving = serving_tokenizer(model)
    training = Words(model) if model.startswith(b"{") else Subwords(model)
    (expected,) = training.encode([meant])
    for character in characters:
        text = f"dog{character}runs"
        assert training.encode([clean_text(text)]) == [expected], f"training, U+{ord(character):04X}"
        assert serving.encode(text).ids[:-1].tolist() == expected, f"serving, U+{ord(character):04X}"


def test_places_are_those_of_the_text_as_given(model: bytes) -> None:
    serving = serving_tokenizer(model)
    plain, dirty = serving.encode("the dog runs"), serving.encode("the\x0b\x00d\x01og\x85runs\x7f")
    assert plain.ids.tolist() == dirty.ids.tolist()
    place = np.array([0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 15])  # of each character of the plain text, and its end
    assert dirty.spans[:-1].tolist() == place[plain.spans[:-1]].tolist()
