"""Positions before and after edits belong together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.text.edits import Edit, EditedText

EDITED = EditedText("abcdefgh", [Edit(0, 1, ""), Edit(2, 4, "XYZ"), Edit(6, 6, "+")])


def test_edits_are_applied() -> None:
    assert EDITED.text == "bXYZef+gh"
    assert EDITED
    unchanged = EditedText("abc")
    assert (unchanged.text, unchanged.after(1, 2), bool(unchanged)) == ("abc", (1, 2), False)


@pytest.mark.parametrize(
    ("begin", "end", "after"),
    [(1, 2, (0, 1)), (2, 3, (1, 4)), (3, 5, (1, 5)), (5, 8, (5, 9)), (0, 8, (0, 9)), (4, 4, (4, 4)), (7, 8, (8, 9))],
)
def test_a_range_that_touches_an_edit_takes_it_whole(begin: int, end: int, after: tuple[int, int]) -> None:
    assert EDITED.after(begin, end) == after


def test_what_was_removed_at_the_border_of_a_range_is_not_in_it() -> None:
    assert EDITED.before(0, 9) == (1, 8)


@given(
    st.text("abc", max_size=20), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.text("XY", max_size=3)))
)
def test_what_no_edit_touches_is_the_same_in_both_texts(text: str, gaps: list[tuple[int, int, str]]) -> None:
    edits, position = [], 0
    for gap, size, new in gaps:
        if position + gap + size > len(text):
            break
        edits.append(Edit(position + gap, position + gap + size, new))
        position += gap + size + 1
    edited = EditedText(text, edits)
    for place in range(len(text)):
        begin, end = edited.after(place, place + 1)
        if not any(edit.start <= place < edit.end for edit in edits):
            assert edited.text[begin:end] == text[place]
            assert edited.before(begin, end) == (place, place + 1)
