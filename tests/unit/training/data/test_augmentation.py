"""Pairs changed by rule: both sides alike, as often as asked, and the same whenever they are made again."""

from collections import Counter
from random import Random

import pytest

from tests.unit.training.text import number_pairs
from training.data.augmentation import CHANGES, AugmentationSettings, augment
from training.data.copied import KINDS
from training.data.parallel_text import Pair
from training.errors import DataError

PAIRS = [
    Pair("Yesterday, Tom paid 1,250 francs.", "Hier, Tom a payé 1 250 francs.", "a"),
    Pair("“Who is there?” - It\u2019s me.", "« Qui est là ? » - C\u2019est moi.", "a"),
    Pair("Anna saw 17 birds; they were blue.", "Anna a vu 17 oiseaux ; ils étaient bleus.", "b"),
]


def changed(pair: Pair, **chances: float) -> list[Pair]:
    """Forty ways in which a pair is changed."""
    return [
        next(augment([pair], AugmentationSettings(**chances), 100, str(number)))  # type: ignore[arg-type]
        for number in range(40)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_in_is_the_same_on_both_sides(kind: str) -> None:
    for pair in PAIRS:
        for new in changed(pair, **{kind: 1.0}):
            put_in = [
                Counter(after.replace(" ", "")) - Counter(before.replace(" ", ""))
                for before, after in ((pair.source, new.source), (pair.target, new.target))
            ]
            assert put_in[0] == put_in[1]
            assert put_in[0]


def test_things_stand_at_places_that_correspond() -> None:
    found = {(new.source, new.target) for new in changed(PAIRS[0], placeholders=1.0)}
    between = [(s, t) for s, t in found if s.count("｟") == 1 and s.startswith("Yesterday, ｟")]
    assert between
    assert all(target.startswith("Hier, ｟") for _, target in between)
    assert any(s.endswith("francs ｟3｠.") == t.endswith("francs ｟3｠.") for s, t in found)


def test_figures_change_alike_however_they_are_set_apart() -> None:
    for new in changed(PAIRS[0], figures=1.0):
        digits = ["".join(c for c in text if c.isdigit()) for text in (new.source, new.target)]
        assert digits[0] == digits[1]
        assert new.source == f"Yesterday, Tom paid {digits[0][0]},{digits[0][1:]} francs."
        assert new.target == f"Hier, Tom a payé {digits[0][0]} {digits[0][1:]} francs."


def test_names_change_alike() -> None:
    names = set()
    for new in changed(PAIRS[0], names=1.0):
        name = new.source.removeprefix("Yesterday, ").removesuffix(" paid 1,250 francs.")
        assert new.target == f"Hier, {name} a payé 1 250 francs."
        names.add(name)
    assert len(names) > 30
    assert "Tom" not in names


def test_changes_of_form() -> None:
    random = Random(0)
    pair = PAIRS[2]
    assert CHANGES["upper"](pair, random).target == "ANNA A VU 17 OISEAUX ; ILS ÉTAIENT BLEUS."
    assert CHANGES["lower"](pair, random).source == "anna saw 17 birds; they were blue."
    assert CHANGES["title"](pair, random).source == "Anna Saw 17 Birds; They Were Blue."
    assert CHANGES["unpunctuated"](pair, random).target == "Anna a vu 17 oiseaux ; ils étaient bleus"
    assert CHANGES["unpunctuated"](PAIRS[1], random).source == PAIRS[1].source.removesuffix(".")
    assert {(new.source, new.target) for new in changed(PAIRS[1], quotes=1.0)} == {
        ('"Who is there?" - It\'s me.', '"Qui est là ?" - C\'est moi.'),
        ("“Who is there?” \u2013 It\u2019s me.", "« Qui est là ? » \u2013 C\u2019est moi."),
        ("« Who is there? » \u2013 It\u2019s me.", "« Qui est là ? » \u2013 C\u2019est moi."),
    }


def test_typing_errors_are_the_sources() -> None:
    new = changed(PAIRS[2], typos=1.0)
    assert {pair.target for pair in new} == {PAIRS[2].target}
    assert len({pair.source for pair in new}) > 20
    assert all(abs(len(pair.source) - len(PAIRS[2].source)) <= 2 for pair in new)


def test_fragments_are_parts_that_correspond() -> None:
    pair = Pair("Hello, how are you, Tom?", "Bonjour, comment allez-vous, Tom ?", "a")
    found = {(new.source, new.target) for new in changed(pair, fragments=1.0)}
    parts = [("Hello", "Bonjour"), ("How are you", "Comment allez-vous"), ("Tom", "Tom")]
    assert found == {(source + end, target + end) for source, target in parts for end in ("", ".")}


@pytest.mark.parametrize(
    "pair",
    [
        Pair("No mark inside.", "Aucune marque dedans.", "a"),
        Pair("Yes, Tom: it is.", "Oui : Tom, en effet.", "a"),
        Pair("Ah, what a long, long way that was for us all.", "Ah, long, long.", "a"),
        Pair(f"{'Far' * 21}, {'away' * 21}", f"{'Loin' * 21}, {'loin' * 21}", "a"),
    ],
    ids=["no mark", "other marks", "unlike lengths", "long"],
)
def test_where_parts_do_not_surely_correspond_the_text_stays_whole(pair: Pair) -> None:
    whole = sum(new == pair for new in changed(pair, fragments=1.0))
    assert whole == 40 if "Ah" not in pair.source else whole > 0


def test_sentences_of_one_label_are_joined_up_to_a_length() -> None:
    settings = AugmentationSettings(joined=1.0)
    first, second, third = augment([PAIRS[0], PAIRS[1], PAIRS[2]], settings, 100, "0")
    assert first == PAIRS[0]
    assert second.source == f"{PAIRS[0].source} {PAIRS[1].source}"
    assert second.target == f"{PAIRS[0].target} {PAIRS[1].target}"
    assert third == PAIRS[2]
    assert list(augment(PAIRS, settings, 6, "0")) == PAIRS


def test_changes_happen_as_often_as_asked_and_the_same_every_time() -> None:
    pairs = number_pairs(4000)
    settings = AugmentationSettings(upper=0.1, typos=0.3)
    new = list(augment(pairs, settings, 100, "seed"))
    assert new == list(augment(pairs, settings, 100, "seed"))
    assert new != list(augment(pairs, settings, 100, "another"))
    capitals = sum(pair.target.isupper() for pair in new)
    assert 320 < capitals < 480


def test_settings_are_checked() -> None:
    with pytest.raises(DataError, match=r"upper is 1\.5"):
        AugmentationSettings(upper=1.5)
    with pytest.raises(DataError, match="variants is 0"):
        AugmentationSettings(variants=0)
