"""Each protected span comes back once, whatever the model made of its number."""

from __future__ import annotations

import pytest

from serving.text.edits import EditedText
from serving.text.reading import Reading, StandIn
from serving.text.restoration import restoring_edits
from serving.text.words import Span


def nothing_unknown(text: str) -> frozenset[str]:
    return frozenset()


def restored(source: str, target: str, place: Span | None = None) -> tuple[str, bool]:
    """``target`` holds A, B and C for the numbers of the spans."""
    reading = Reading(source, nothing_unknown)
    stand_ins = reading.part(0, len(reading.text)).stand_ins
    for letter, stand_in in zip("ABC", stand_ins, strict=False):
        target = target.replace(letter, stand_in.number)

    def attending(stand_in: StandIn) -> Span | None:
        return place

    edits, appended = restoring_edits(target, stand_ins, attending)
    return EditedText(target, edits).text, appended


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("Copy {a} to {b}.", "Copie A vers B.", "Copie {a} vers {b}."),
        ("Copy {a} to {b}.", "Vers B, A.", "Vers {b}, {a}."),
        ("Copy {a}.", "Copie A et A.", "Copie {a} et."),
        ("Copy {a} 5 times.", "A 5 fois.", "{a} 5 fois."),
        ("un{a}able", "in A able", "in{a}able"),
        ("x{a}y{b}z", "A B", "{a}{b}"),
    ],
)
def test_spans_take_the_places_of_their_numbers(source: str, target: str, expected: str) -> None:
    assert restored(source, target) == (expected, False)


def test_a_lost_span_goes_where_the_alignment_says() -> None:
    assert restored("Copy {a} now.", "Copie donc maintenant.", (6, 10)) == ("Copie donc {a} maintenant.", False)
    assert restored("Copy {a} now.", "Copie 77 maintenant.", (6, 8)) == ("Copie {a} maintenant.", False)


def test_a_span_without_a_place_is_appended_and_that_is_told() -> None:
    assert restored("Copy {a} to {b}.", "Copie A.") == ("Copie {a}. {b}", True)
    assert restored("Copy {a} to {b}.", "Copie A.", (6, 9)) == ("Copie {a}. {b}", True)


def test_more_spans_than_numbers_are_all_restored() -> None:
    source = " ".join(f"{{x{number}}}" for number in range(1000))
    reading = Reading(source, nothing_unknown)
    part = reading.part(0, len(reading.text))
    edits, appended = restoring_edits(part.text, part.stand_ins, lambda _: None)
    assert (EditedText(part.text, edits).text, appended) == (source, False)
