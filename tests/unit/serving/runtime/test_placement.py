"""Which device and precision are tried, in which order; and what is said where CUDA does not work."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from serving.bundle.bundle import Bundle, load_bundle
from serving.errors import StartupError
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.placement import placements
from serving.runtime.session import open_session
from tests.unit.serving.bundle.test_bundle import GOLDEN

BUNDLE = load_bundle(GOLDEN)  # fp32 for both devices, int8 for the CPU


@pytest.mark.parametrize(
    ("precision", "device", "cuda", "expected"),
    [
        ("auto", "auto", True, [("cuda", "fp32"), ("cpu", "int8")]),
        ("auto", "auto", False, [("cpu", "int8")]),
        ("auto", "cuda", True, [("cuda", "fp32")]),
        ("auto", "cpu", True, [("cpu", "int8")]),
        ("fp32", "auto", True, [("cuda", "fp32"), ("cpu", "fp32")]),
        ("int8", "auto", True, [("cpu", "int8")]),  # CUDA is there, and nothing is wrong with it
    ],
)
def test_what_is_tried(precision: str, device: str, cuda: bool, expected: list[tuple[str, str]]) -> None:
    assert placements(BUNDLE.manifest, precision=precision, device=device, cuda=cuda) == expected


@pytest.mark.parametrize(
    ("bleu", "agreement", "expected"),
    [(30.0, 85.0, "int8-shortlist"), (29.8, 85.0, "int8"), (30.0, 60.0, "int8"), (None, 85.0, "int8")],
)
def test_a_shortlist_is_taken_unasked_only_if_its_record_is_good(
    bleu: float | None, agreement: float, expected: str
) -> None:
    held = BUNDLE.manifest.precisions
    records: dict[str, dict[str, Any]] = {
        "int8": {"export_bleu": 30.05, "agreement_bleu": 90.0},
        "int8-shortlist": {"export_bleu": bleu, "agreement_bleu": agreement},
    }
    int8 = {
        name: held["int8"].model_copy(update={"verification": held["int8"].verification.model_copy(update=record)})
        for name, record in records.items()
    }
    manifest = BUNDLE.manifest.model_copy(update={"precisions": {"fp32": held["fp32"], **int8}})
    assert placements(manifest, precision="auto", device="cpu", cuda=False) == [("cpu", expected)]


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [
        ("fp16", "cpu", "precision is 'fp16', bundle digits/1 has fp32, int8: name one of these"),
        ("int8", "cuda", "bundle digits/1: precision int8 runs on cpu, not on cuda"),
        ("auto", "tpu", "device is 'tpu': use one of cpu, cuda"),
    ],
)
def test_what_is_refused(precision: str, device: str, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        placements(BUNDLE.manifest, precision=precision, device=device, cuda=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """ONNX Runtime says it has CUDA, and then has not; returns how sessions are asked for: device, CUDA graphs."""
    calls: list[tuple[str, bool]] = []

    def noted(graph: Path, **options: Any) -> ort.InferenceSession:
        calls.append((options["device"], options["cuda_graphs"]))
        return open_session(graph, **options)

    monkeypatch.setattr("serving.runtime.onnx_runner.open_session", noted)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    return calls


def opened(bundle: Bundle, **options: Any) -> OnnxRunner:
    return OnnxRunner.open(bundle, device="auto", threads=1, **options)


def test_no_cuda_graphs_are_recorded_where_nobody_wants_them(asked: list[tuple[str, bool]]) -> None:
    assert opened(BUNDLE, precision="fp32", cuda_graphs=False).device == "cpu"
    assert asked == [("cuda", False), ("cpu", False), ("cpu", False)]


def test_the_log_names_cuda_and_not_its_graphs(asked: list[tuple[str, bool]], caplog: pytest.LogCaptureFixture) -> None:
    assert opened(BUNDLE, precision="fp32").device == "cpu"
    assert ("cuda", True) in asked
    assert [record.getMessage() for record in caplog.records] == ["CUDA does not work, running on the CPU"]


def test_a_precision_for_cpus_says_nothing_against_cuda(
    asked: list[tuple[str, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert opened(BUNDLE, precision="int8").precision_name == "int8"
    assert asked == [("cpu", False)] * 2
    assert caplog.records == []
