"""Characters in normalisation form C, and none that cannot be seen."""

from __future__ import annotations

import pytest

from serving.text.characters import cleaning_edits, composing_edits
from serving.text.edits import EditedText


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("Cafe\u0301 noir", "Café noir"),
        ("co\u00adope\u200bra\u2060te\ufeff", "cooperate"),
        ("\ufeffHello", "Hello"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
        ("\u212b", "Å"),
        ("a\u200db\u200c", "ab"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("plain text", "plain text"),
    ],
)
def test_what_a_model_reads(given: str, clean: str) -> None:
    assert EditedText(given, cleaning_edits(given, 0, len(given))).text == clean


def test_edits_are_small() -> None:
    edited = EditedText("при\u00adвет, ко\u0301т", cleaning_edits("при\u00adвет, ко\u0301т", 0, 13))
    assert edited.before(0, 2) == (0, 2)
    assert edited.before(4, 6) == (5, 7)


def test_composing_leaves_what_cannot_be_seen() -> None:
    text = "e\u0301\u200d\u00ad"
    assert EditedText(text, composing_edits(text)).text == "é\u200d\u00ad"
    assert composing_edits("déjà") == []
