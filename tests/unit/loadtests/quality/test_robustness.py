"""The checks of `make quality`: what passes, what does not, and that its texts are what they say."""

import gzip
from pathlib import Path

import pytest

from loadtests.quality import robustness
from loadtests.quality.test_sets import Line, groups, read_test_sets

LINES = [
    Line(f"The {animal} was seen again near the old river.", f"Le {animal} a été revu.", "general/enfr", "books")
    for animal in ("cat", "dog", "cow", "hen")
]


def test_a_translation_that_keeps_everything_passes_and_one_that_keeps_nothing_does_not() -> None:
    for case in robustness.copying_cases(LINES, 40):
        assert len(case.texts) == len(case.checks) == 40
        assert len(set(case.texts)) > 20
        assert case.share(case.texts) == 1.0
        assert case.share(["Le chat est là."] * 40) == 0.0
        assert case.share([*case.texts[:20], *["Non."] * 20]) == 0.5


@pytest.mark.parametrize(
    ("number", "translation", "kept"),
    [
        ("1,234", "Il y en a 1 234.", True),
        ("1,234", "Il y en a 12 345.", False),
        ("1,499.95", "Cela coûte 1\u202f499,95 euros.", True),
        ("-7", "Il fait \u22127 degrés.", True),
        ("-7", "Il fait 7 degrés.", False),
        ("14:35", "À 14 h 35.", True),
        ("18.5", "Il y en a 218,5.", False),
        ("(416) 555-0123", "(416) 555-0123", True),
    ],
)
def test_numbers_may_be_set_apart_as_the_language_does(number: str, translation: str, kept: bool) -> None:
    assert robustness._same_number(number)(translation) is kept


def test_a_lost_sentence_is_found() -> None:
    apart = ["Le chat dort.", "Le chien court.", "La vache mange."]
    assert robustness.none_is_lost(" ".join(apart), apart)
    assert not robustness.none_is_lost(" ".join(apart[:2]), apart)
    assert not robustness.none_is_lost("Le chat, le chien et la vache font tous quelque chose.", apart)
    assert not robustness.none_is_lost(" ".join(apart * 2), apart)


def test_sets_are_found_and_grouped_by_part_and_length(tmp_path: Path) -> None:
    for folder, count in (("enfr", 2), ("general/enfr", 3)):
        place = tmp_path / folder
        place.mkdir(parents=True)
        for kind, text in (("en", "A cat."), ("fr", "Un chat."), ("source", folder[:4])):
            (place / f"test.{kind}.gz").write_bytes(gzip.compress(f"{text}\n".encode() * count))
    forwards, backwards = read_test_sets(tmp_path, "en", "fr"), read_test_sets(tmp_path, "fr", "en")
    assert [line.reference for line in backwards] == [line.source for line in forwards] == ["A cat."] * 5
    assert {key: len(numbers) for key, numbers in groups(forwards).items()} == {
        ("enfr", "enfr"): 2,
        ("enfr", "all"): 2,
        ("general/enfr", "gene"): 3,
        ("general/enfr", "all"): 3,
        ("by length", "1 to 10 words"): 5,
    }
    with pytest.raises(ValueError, match="no test set of en to de"):
        read_test_sets(tmp_path, "en", "de")
