"""What the command refuses, in one sentence, before it costs anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export import bundle, cli
from export.bundle import BundleOptions
from export.errors import ExportError, VerificationError
from export.values import SHAPES
from export.verify import Evidence, _require


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main([str(tmp_path / "none.ckpt"), str(tmp_path), "--name", "x", "--sentences", str(tmp_path / "s")])
    assert code == 1
    assert "There is no checkpoint" in capsys.readouterr().err


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    assert cli.main([str(tmp_path / "other.ckpt"), str(tmp_path), "--name", "x", "--sentences", "s"]) == 1
    assert "not a Dragoman checkpoint" in capsys.readouterr().err


def test_a_name_is_required_to_write() -> None:
    with pytest.raises(SystemExit):
        cli.main(["a.ckpt", "out", "--sentences", "s"])


def test_an_existing_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "en-fr" / "3").mkdir(parents=True)
    nothing = Evidence((), (), 10)
    with pytest.raises(ExportError, match="exists: give another version"):
        bundle.write_bundle(None, tmp_path, BundleOptions("en-fr", 3), nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("difference", "ratios", "reasons"),
    [
        (2e-4, {1: 1.0, 4: 1.0}, ["a log-probability differs by 2.0e-04, at most 1e-04 may"]),
        (float("nan"), {1: 1.0, 4: 1.0}, ["differs by nan"]),
        (1e-5, {1: 0.9, 4: 0.5}, ["beam 1: 90.00%", "beam 4: 50.00%"]),
        (1.0, {1: 1.0, 4: 0.0}, ["differs by 1.0e+00", "beam 4: 0.00%"]),
    ],
)
def test_every_missed_limit_is_a_reason(difference: float, ratios: dict[int, float], reasons: list[str]) -> None:
    with pytest.raises(VerificationError) as caught:
        _require(difference, ratios)
    assert len(caught.value.reasons) == len(reasons)
    for reason, expected in zip(caught.value.reasons, reasons, strict=True):
        assert expected in reason


def test_what_passes_passes() -> None:
    _require(9e-5, {1: 0.9991, 4: 1.0})


def test_values_are_compared_at_four_shapes_or_more_with_batch_and_length_one_among_them() -> None:
    assert len(SHAPES) >= 4
    assert any(len(shape.sources) == 1 for shape in SHAPES)
    assert any(1 in shape.sources for shape in SHAPES)
