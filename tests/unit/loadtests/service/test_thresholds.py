"""Limits from a file, the page that shows the verdict, and the sentences of a run."""

import json
from pathlib import Path

import pytest

from loadtests.report import write_json, write_page
from loadtests.service.calls import summary
from loadtests.service.sentences import BUNDLED, MAX_WORDS, sentences
from loadtests.service.thresholds import load_thresholds

FIGURES = {"latency_ms": {"p99": 120.0, "p99.9": None}, "failed_share": 0.0, "outcomes": {"OK": 3}, "name": "x"}


def violations(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "thresholds.yaml"
    path.write_text(text)
    return load_thresholds(path).violations(FIGURES)


def test_limits_that_are_kept_say_nothing(tmp_path: Path) -> None:
    text = "latency_ms.p99: {at_most: 120}\nfailed_share: {at_most: 0}\noutcomes.OK: {at_least: 3, at_most: 3}\n"
    assert violations(tmp_path, text) == []


def test_every_broken_limit_is_named_with_its_value(tmp_path: Path) -> None:
    text = "latency_ms.p99: {at_most: 100}\noutcomes.OK: {at_least: 4}\nlatency_ms.p99.9: {at_most: 1}\n"
    assert violations(tmp_path, text) == [
        "latency_ms.p99 is 120, at most 100 is allowed",
        "outcomes.OK is 3, at least 4 is required",
        "latency_ms.p99.9 has no finite value",
    ]


def test_a_limit_of_no_figure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no figure 'latency_ms.p98'; there are latency_ms.p99,"):
        violations(tmp_path, "latency_ms.p98: {at_most: 1}\n")


@pytest.mark.parametrize("text", ["", "- a\n", "failed_share: {}\n", "failed_share: {below: 1}\n"])
def test_a_file_that_limits_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="has no thresholds"):
        violations(tmp_path, text)


def test_what_is_infinite_is_null_in_json_and_said_on_the_page(tmp_path: Path) -> None:
    figures = {"recovery_seconds": float("inf"), "run": summary([]), "points": [{"offered": 1.23456, "p99": None}]}
    write_json(tmp_path / "summary.json", figures)
    assert json.loads((tmp_path / "summary.json").read_text())["recovery_seconds"] is None
    broken = {**figures, "broken_thresholds": ["p99 is <large>"]}
    write_page(tmp_path / "report.html", title="t", figures=broken, pictures=[])
    page = (tmp_path / "report.html").read_text()
    assert "p99 is &lt;large&gt;" in page
    assert "<td>1.2346</td><td>&infin;</td>" in page


def test_sentences_are_those_of_the_file_and_else_bundled_ones_of_mixed_length(tmp_path: Path) -> None:
    lengths = [len(sentence.split()) for sentence in sentences(None, None)]
    assert len(lengths) == len(BUNDLED.read_text().splitlines())
    assert min(lengths) <= 3
    assert max(lengths) > 30
    own = tmp_path / "own.txt"
    own.write_text("a b\n\n" + "word " * (MAX_WORDS + 1) + "\nc\n")
    assert sentences(own, None) == ["a b", "c"]
    own.write_text("\n")
    with pytest.raises(ValueError, match="no sentence"):
        sentences(own, None)
