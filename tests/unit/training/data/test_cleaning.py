"""Filters, duplicates and languages: what is removed, and that it is counted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.cleaning import FilterReport, FilterSettings, clean_pairs, clean_text
from training.data.duplicates import SeenHashes
from training.data.parallel_text import CorpusFiles, Pair
from training.errors import DataError

LANGUAGES = ("en", "fr")


def test_filters_count_what_each_removed() -> None:
    raw = [
        Pair("a  b\u00a0c", "x y z", "in"),
        Pair("  ", "x", "in"),
        Pair("one", " ".join("x" * 12), "in"),
        Pair(" ".join("a" * 21), " ".join("b" * 21), "in"),
        Pair("Same words", "same WORDS", "in"),
        Pair("left", "out", "other"),
        Pair("cafe\u0301", "caf\u200b\x07e", "in"),
        Pair("a b c", "x\ty z ", "in"),
    ]
    report = FilterReport()
    kept = list(clean_pairs(raw, FilterSettings(max_words=20), LANGUAGES, frozenset({"in"}), report))
    assert kept == [Pair("a b c", "x y z", "in"), Pair("café", "cafe", "in")]
    assert (report.read, report.kept) == (8, 2)
    assert report.removed == Counter(empty=1, length_ratio=1, too_long=1, identical=1, label=1, duplicate=1)
    assert report.labels == Counter({"in": 2})
    assert "identical 1, label 1, length_ratio 1, too_long 1" in report.summary()


def test_unicode_forms() -> None:
    ligature = "ﬁn \u0065\u0301 ½"
    assert clean_text(ligature) == "fin é 1\u20442"
    assert clean_text(ligature, "nfc") == "ﬁn é ½"
    assert clean_text(ligature, "none") == ligature
    assert clean_text(" a\tb \u3000c\r\ud800") == "a b c"


def test_limits_that_drop_everything_are_refused() -> None:
    with pytest.raises(DataError, match=r"max_ratio 0\.5 must be at least 1"):
        FilterSettings(max_ratio=0.5)


def test_language_filter_drops_pairs_in_the_wrong_language() -> None:
    english, french = "The weather was very cold this morning.", "Il faisait très froid ce matin."
    german = "Heute Morgen war es sehr kalt draußen."
    raw = [Pair(english, french), Pair(french, english), Pair(english, german), Pair("12 + 3", "12 + 4")]
    report = FilterReport()
    kept = list(clean_pairs(raw, FilterSettings(language_threshold=0.3), LANGUAGES, None, report))
    assert kept == [raw[0], raw[3]]
    assert report.removed == Counter(language=2)
    with pytest.raises(DataError, match="does not know the language 'tlh'"):
        list(clean_pairs(raw, FilterSettings(language_threshold=0.3), ("en", "tlh"), None, report))


chunks = st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=12)


@given(chunks=chunks)
@settings(max_examples=200, deadline=None)
def test_seen_hashes_are_a_set(chunks: list[list[int]]) -> None:
    seen, hashes = set[int](), SeenHashes()
    for chunk in chunks:
        fresh = hashes.add(np.array(chunk, dtype=np.uint64)).tolist()
        for value, new in zip(chunk, fresh, strict=True):
            assert new == (value not in seen)
            seen.add(value)


def test_real_corpus_reads_and_is_hardly_filtered(corpora: Path) -> None:
    source, target, labels = (corpora / "enfr" / f"valid.{kind}.gz" for kind in ("en", "fr", "source"))
    files = CorpusFiles(source, target, labels)
    report = FilterReport()
    strict = FilterSettings(language_threshold=0.05)
    kept = list(clean_pairs(files.pairs(), strict, LANGUAGES, frozenset({"tatoeba"}), report))
    assert report.read == 2000
    assert report.removed["label"] == 1200
    assert len(kept) > 750


@pytest.mark.parametrize("separator", ["\f", "\v", "\r", "\x1c", "\x85", "\u2028", "\t"])
def test_white_space_of_any_kind_separates_words(separator: str) -> None:
    assert clean_text(f"dog{separator}runs") == "dog runs"
