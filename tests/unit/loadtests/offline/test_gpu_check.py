"""The check of a GPU, rehearsed on the CPU: the whole script, on a small bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.offline import gpu_check
from loadtests.offline.base_random import random_bundle
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


def run(bundle: Path, text: Path, out: Path) -> int:
    sizes = ["--sentences", "16", "--requests", "40", "--repeats", "1", "--max-length", "8"]
    return gpu_check.main(["--device", "cpu", "--bundle", str(bundle), "--data", str(text), "--out", str(out), *sizes])


def test_a_rehearsal_measures_everything_and_holds_all_limits(half_bundle: Path, text: Path, tmp_path: Path) -> None:
    assert run(half_bundle, text, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "gpu-check.json").read_text(encoding="utf-8"))
    assert found["broken"] == []
    assert found["parity"].keys() == {f"{p}, beam {b}" for p in ("fp32", "fp16") for b in (1, 4)}
    assert found["parity"]["fp32, beam 4"]["equal_ratio"] == 1
    assert 0 < found["parity"]["fp16, beam 4"]["max_difference"] < 0.1
    assert found["invariance"]["fp16"]["sentences"] == 4
    assert found["memory"]["fp32"]["requests"] == 40
    assert {(row["batch"], row["beam"]) for row in found["times"]} == {(n, b) for n in (1, 8, 32, 64) for b in (1, 4)}
    assert {row["beam"] for row in found["bulk"]} == {1, 4}
    assert "All limits hold." in (tmp_path / "out" / "gpu-check.md").read_text(encoding="utf-8")


def test_a_broken_limit_is_named_and_ends_with_1(
    half_bundle: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu_check.MAX_DIFFERENCE, "fp16", 1e-9)
    assert run(half_bundle, text, tmp_path / "out") == 1
    assert "BROKEN: fp16, beam 1: a log-probability differs by" in capsys.readouterr().out


def test_a_bundle_without_fp16_does_not_pass(bundle: Path, text: Path, tmp_path: Path) -> None:
    assert run(bundle, text, tmp_path / "out") == 1


def test_no_gpu_is_said_plainly(half_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--bundle", str(half_bundle)]) == 1
    assert "gpu-check: nvidia-smi does not run" in capsys.readouterr().err
