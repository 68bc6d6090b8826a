"""A bundle that is not what its manifest says is refused, with every problem named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.bundle.bundle import load_bundle
from serving.errors import StartupError

GOLDEN = Path(__file__).parents[3] / "golden" / "format-2" / "digits" / "1"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "digits" / "1"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_the_golden_bundle_loads(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.manifest.name == "digits"
    assert loaded.path(loaded.manifest.tokenizer.source).is_file()


def test_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read manifest\.json in .*; give the directory of a bundle"):
        load_bundle(tmp_path)


def test_every_damaged_file_is_named(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"other")
    (bundle / "source.spm").unlink()
    with pytest.raises(StartupError) as caught:
        load_bundle(bundle)
    assert "weights.bin has sha256" in str(caught.value)
    assert "source.spm is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.update(format_version=1), "format_version"),
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m.update(source_language="no tag"), "languages.sources"),
        (lambda m: m["limits"].update(max_source_tokens=0), "limits.max_source_tokens"),
        (lambda m: m["files"].pop("weights.bin") and m["files"].pop("encoder.onnx"), "encoder.onnx"),
        (lambda m: m["precisions"]["fp32"]["memory"][0].update(axes=["slot", "somewhere"]), "memory.0.axes.1"),
    ],
)
def test_a_wrong_manifest_names_the_key(
    bundle: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    edit(bundle, change)
    with pytest.raises(StartupError, match=complaint):
        load_bundle(bundle)


def test_all_wrong_keys_are_named_at_once(bundle: Path) -> None:
    edit(bundle, lambda m: m.update(version=0, vocabulary_size=-1, colour="red"))
    with pytest.raises(StartupError, match=r"(?s)version.*vocabulary_size.*colour"):
        load_bundle(bundle)
