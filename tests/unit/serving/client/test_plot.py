"""The words of a picture, and that links are drawn where they belong."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.image
import pytest

from serving.client.plot import PlotError, draw_alignment, words
from serving.messages import AlignmentLink, FinishReason, Hypothesis


def hypothesis(text: str, *links: tuple[int, int, int, int]) -> Hypothesis:
    return Hypothesis(text, 0.0, 0.0, (), tuple(AlignmentLink(*link) for link in links), FinishReason.EOS)


def test_words_are_the_linked_spans_and_what_is_between_them() -> None:
    text = "the cat's mat, (wet)."
    linked = [(10, 13), (4, 7), (10, 13), (16, 19)]
    assert [text[a:b] for a, b in words(text, linked)] == ["the", "cat", "'s", "mat", ",", "(", "wet", ")."]
    assert words("", []) == words("  ", []) == []
    assert words("abc", [(0, 2), (1, 3)]) == [(0, 2), (2, 3)]


def test_links_are_squares(tmp_path: Path) -> None:
    def dark(*links: tuple[int, int, int, int]) -> int:
        draw_alignment("one two", hypothesis("un deux", *links), tmp_path / "a.png")
        pixels = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
        return int((pixels.sum(axis=-1) < 0.1).sum())

    none, one, two = dark(), dark((0, 3, 0, 2)), dark((0, 3, 0, 2), (4, 7, 3, 7))
    assert 2 * (one - none) == pytest.approx(two - none, rel=0.2)
    assert one > 2 * none


def test_what_cannot_be_drawn_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlotError, match=r"none/a\.png cannot be written .No such file or directory"):
        draw_alignment("one", hypothesis("un"), tmp_path / "none" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="needs matplotlib; install dragoman with the extra 'plot'"):
        draw_alignment("one", hypothesis("un"), tmp_path / "a.png")
