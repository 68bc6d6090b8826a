"""Bundles fetched from a store: as a whole, checked, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from serving.bundle.bundle import load_bundle, sha256
from serving.bundle.fetching import fetch_bundle, main
from serving.errors import StartupError
from tests.shipped import BUNDLE, LABEL

URL = f"memory://store/{LABEL}"


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    store = fsspec.filesystem("memory")
    for path in BUNDLE.iterdir():
        store.pipe(f"/store/{LABEL}/{path.name}", path.read_bytes())
    yield store
    store.rm("/store", recursive=True)


@pytest.mark.usefixtures("store")
def test_a_bundle_is_fetched_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"
    assert main([URL, str(models), "--manifest-sha256", sha256(BUNDLE / "manifest.json")]) == 0
    assert capsys.readouterr().out == f"{models / LABEL}\n"
    assert load_bundle(models / LABEL).manifest == load_bundle(BUNDLE).manifest
    assert [path.name for path in models.iterdir()] == ["en-fr"]
    assert main([URL, str(models)]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda store: store.rm(f"/store/{LABEL}/weights.bin"), "cannot fetch a bundle"),
        (lambda store: store.pipe(f"/store/{LABEL}/weights.bin", b"x"), "weights.bin has sha256"),
        (lambda store: store.pipe(f"/store/{LABEL}/manifest.json", b"{}"), "cannot fetch a bundle"),
        (lambda store: store.rm(f"/store/{LABEL}/manifest.json"), "cannot fetch a bundle"),
    ],
)
def test_a_bad_bundle_leaves_nothing(
    tmp_path: Path, store: fsspec.AbstractFileSystem, change: object, message: str
) -> None:
    change(store)  # type: ignore[operator]
    with pytest.raises(StartupError, match=message):
        fetch_bundle(URL, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("store")
def test_another_manifest_than_the_one_vouched_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="this is another bundle"):
        fetch_bundle(URL, tmp_path, manifest_sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot fetch a bundle from nowhere://x"):
        fetch_bundle("nowhere://x", tmp_path)
