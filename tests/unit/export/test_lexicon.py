"""The lexicon on a text whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.errors import ExportError
from export.lexicon import LexiconSizes, build_shortlist, model_1
from serving.bundle.shortlist import Shortlist
from training.models.contract import Vocabulary

HOUSE, BOOK, THE, A = 4, 5, 6, 7
HAUS, BUCH, DAS, EIN, COMMA = 10, 11, 12, 13, 14
SOURCES = [[THE, HOUSE], [THE, BOOK], [A, BOOK], [A, HOUSE], [THE, HOUSE]]
TARGETS = [[DAS, HAUS, COMMA], [DAS, BUCH, COMMA], [EIN, BUCH, COMMA], [HAUS, EIN, COMMA], [DAS, HAUS, COMMA]]
APART = Vocabulary(source_size=8, target_size=15, shared=False)


def test_the_words_that_go_together_are_found() -> None:
    words, translations, probabilities = model_1(SOURCES, TARGETS)
    table = dict(zip(zip(words.tolist(), translations.tolist(), strict=True), probabilities, strict=True))
    for word, translation in ((HOUSE, HAUS), (BOOK, BUCH), (THE, DAS), (A, EIN)):
        likeliest = max((held, key[1]) for key, held in table.items() if key[0] == word)
        assert likeliest[1] == translation
    for word in (HOUSE, BOOK, THE, A):
        assert sum(held for key, held in table.items() if key[0] == word) == pytest.approx(1)


def test_many_blocks_of_sentences_are_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = model_1(SOURCES, TARGETS)
    monkeypatch.setattr("export.lexicon._BLOCK", 2)
    for one, other in zip(at_once, model_1(SOURCES, TARGETS), strict=True):
        np.testing.assert_allclose(one, other)


def test_a_sentence_gets_its_own_translations_the_frequent_tokens_and_its_prefix() -> None:
    shortlist = build_shortlist(SOURCES, TARGETS, APART, LexiconSizes(always=1, best=1))
    end = APART.eos
    assert shortlist.always.tolist() == [end, COMMA]
    assert shortlist.candidates(np.array([HOUSE, end])).tolist() == [end, HAUS, COMMA]
    assert shortlist.candidates(np.array([A, BOOK, end])).tolist() == [end, BUCH, EIN, COMMA]
    assert shortlist.candidates(np.array([HOUSE, end]), (9, HAUS)).tolist() == [end, 9, HAUS, COMMA]


def test_names_are_copied_where_the_sides_share_a_vocabulary_and_what_is_suppressed_never_is() -> None:
    shortlist = build_shortlist(SOURCES, TARGETS, Vocabulary(15, 15), LexiconSizes(always=1, best=2))
    found = shortlist.candidates(np.array([9, 1, 3]))  # 9 was never seen, 1 is unknown
    assert found.tolist() == [3, 9, COMMA]


def test_a_lexicon_survives_its_file(tmp_path: Path) -> None:
    shortlist = build_shortlist(SOURCES, TARGETS, APART, LexiconSizes(always=2, best=3))
    shortlist.save(tmp_path / "shortlist.npz")
    again = Shortlist.load(tmp_path / "shortlist.npz")
    np.testing.assert_array_equal(again.always, shortlist.always)
    np.testing.assert_array_equal(again.best, shortlist.best)


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ExportError, match="no pairs of 1 to 50 tokens"):
        build_shortlist([[]], [[DAS]], APART, LexiconSizes())
