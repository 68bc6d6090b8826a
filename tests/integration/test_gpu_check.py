"""``make gpu-check`` rehearsed on the CPU: the tests of ``tests/gpu`` and the benchmark, on a small bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.offline.random_bundle import random_bundle
from scripts import gpu_check
from serving.decoding.hypothesis import FinishedHypothesis
from serving.messages import FinishReason
from tests.gpu.test_parity import agreement
from tests.unit.loadtests.offline.conftest import USUAL, VOCABULARY


@pytest.fixture(scope="module")
def half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_bundle(tmp_path_factory.mktemp("models"), "tiny", USUAL, VOCABULARY, ("fp32", "fp16"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    lines = [f"w{number * 4} w{number * 3 + 1} w{number}" for number in range(20)]
    for language in ("en", "fr"):
        (tmp_path / f"text.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "text"


def run(bundle: Path, text: Path, out: Path, *options: str) -> int:
    sizes = ["--sentences", "16", "--requests", "40", "--repeats", "1", "--max-length", "8", *options]
    return gpu_check.main(["--device", "cpu", "--bundle", str(bundle), "--data", str(text), "--out", str(out), *sizes])


def test_a_rehearsal_measures_everything_and_holds_all_limits(half_bundle: Path, text: Path, tmp_path: Path) -> None:
    assert run(half_bundle, text, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "checks.json").read_text(encoding="utf-8"))
    assert found["parity"].keys() == {f"{p}, beam {b}" for p in ("fp32", "fp16") for b in (1, 4)}
    assert found["parity"]["fp32, beam 4"]["equal_ratio"] == 1
    assert 0 < found["parity"]["fp16, beam 4"]["max_difference"] < 0.1
    assert found["invariance"]["fp16"]["sentences"] == 4
    assert found["memory"]["fp32"]["requests"] == 40
    assert 'failures="0" skipped="0" tests="8"' in (tmp_path / "out" / "checks.xml").read_text(encoding="utf-8")
    times = json.loads((tmp_path / "out" / "times.json").read_text(encoding="utf-8"))
    assert {(row["batch"], row["beam"]) for row in times["times"]} == {(n, b) for n in (1, 8, 32, 64) for b in (1, 4)}
    assert {row["beam"] for row in times["bulk"]} == {1, 4}
    assert "| precision | cuda_graphs | batch | beam | ms |" in (tmp_path / "out" / "times.md").read_text()


def test_a_bundle_without_fp16_does_not_pass(half_bundle: Path, text: Path, tmp_path: Path) -> None:
    manifest = half_bundle / "manifest.json"
    whole = manifest.read_text()
    content = json.loads(whole)
    del content["precisions"]["fp16"]
    manifest.write_text(json.dumps(content))
    try:
        assert run(half_bundle, text, tmp_path / "out", "--parts", "parity") == 1
    finally:
        manifest.write_text(whole)
    assert not (tmp_path / "out" / "times.json").exists()


def test_differences_show() -> None:
    one = FinishedHypothesis((7, 8), (-0.5, -0.5), (0, 0), -0.5, FinishReason.LENGTH)
    other = replace(one, log_probs=(-0.5, -0.75))
    assert agreement([one, one], [other, replace(one, tokens=(7, 9))]) == (0.5, 0.25)


def test_no_gpu_is_said_plainly(half_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--bundle", str(half_bundle)]) == 1
    assert "gpu-check: onnxruntime has no CUDA" in capsys.readouterr().err
