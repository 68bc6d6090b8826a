"""Long work shows how far it is, on a terminal and in a log; short work in a log says nothing."""

from __future__ import annotations

import pytest

from training import progress_bar
from training.progress_bar import progress


def test_short_work_leaves_no_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_bar, "_LOG_SECONDS", 0.0)
    assert list(progress(iter("abcd"), "spelling", total=4)) == list("abcd")
    said = capsys.readouterr().err
    assert "spelling: 2 of 4 after 00:00, 00:00 left\n" in said
