"""What the command refuses, in one sentence, before it costs anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export import bundle, cli
from export.bundle import BundleOptions
from export.errors import ExportError, VerificationError
from export.numeric_parity import SHAPES
from export.verify import Evidence, require_close, require_equal
from serving.bundle.manifest import VerificationRecord


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main([str(tmp_path / "none.ckpt"), str(tmp_path), "--name", "x", "--sentences", str(tmp_path / "s")])
    assert code == 1
    assert "there is no checkpoint" in capsys.readouterr().err


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


def record(
    difference: float = 0.0, greedy: float = 1.0, beam: float = 1.0, **others: float | None
) -> VerificationRecord:
    return VerificationRecord.model_validate(
        {
            "created": "",
            "versions": {},
            "shapes_checked": 5,
            "max_abs_log_prob_difference": difference,
            "sentences": 1000,
            "greedy_equal_ratio": greedy,
            "beam_equal_ratio": beam,
            "beam_size": 4,
            **others,
        }
    )


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        (record(2e-4), ["a log-probability differs by 2.0e-04, at most 1e-04 may"]),
        (record(float("nan")), ["differs by nan"]),
        (record(1e-5, 0.9, 0.5), ["beam 1: 90.00%", "beam 4: 50.00%"]),
        (record(1.0, 1.0, 0.0), ["differs by 1.0e+00", "beam 4: 0.00%"]),
    ],
)
def test_every_limit_that_fp32_misses_is_a_reason(found: VerificationRecord, reasons: list[str]) -> None:
    with pytest.raises(VerificationError) as caught:
        require_equal(found)
    assert len(caught.value.reasons) == len(reasons)
    for reason, expected in zip(caught.value.reasons, reasons, strict=True):
        assert expected in reason


@pytest.mark.parametrize(
    ("found", "max_loss", "reasons"),
    [
        (
            record(0.5, reference_bleu=30.0, export_bleu=29.6),
            0.3,
            ["BLEU is 29.60 where PyTorch has 30.00"],
        ),
        (record(float("inf"), agreement_bleu=99.0), 0.3, ["differs by inf"]),
        (record(float("nan"), agreement_bleu=99.0), float("inf"), ["differs by nan"]),
        (record(0.5, agreement_bleu=60.0), 0.3, ["BLEU against PyTorch's translations is 60.0, at least 70.0"]),
    ],
)
def test_every_limit_that_int8_misses_is_a_reason(
    found: VerificationRecord, max_loss: float, reasons: list[str]
) -> None:
    with pytest.raises(VerificationError) as caught:
        require_close(found, max_loss)
    assert len(caught.value.reasons) == len(reasons)
    for reason, expected in zip(caught.value.reasons, reasons, strict=True):
        assert expected in reason


def test_what_passes_passes() -> None:
    require_equal(record(9e-5, 0.9991, 1.0))
    require_close(record(0.8, 0.5, 0.5, reference_bleu=30.0, export_bleu=29.8, agreement_bleu=10.0), 0.3)
    require_close(record(0.8, 0.5, 0.5, agreement_bleu=70.0), 0.3)
    require_close(record(0.8, 0.0, 0.0, agreement_bleu=1.0), float("inf"))


def test_an_unknown_precision_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["a.ckpt", "out", "--name", "x", "--precisions", "fp32,int4"])
    assert "there is no precision 'int4': use any of fp32, int8" in capsys.readouterr().err


def test_values_are_compared_at_four_shapes_or_more_with_batch_and_length_one_among_them() -> None:
    assert len(SHAPES) >= 4
    assert any(len(shape.sources) == 1 for shape in SHAPES)
    assert any(1 in shape.sources for shape in SHAPES)
