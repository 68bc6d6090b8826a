"""Weights are in memory once, for both graphs and all workers: loading takes little more than the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.offline.random_bundle import random_bundle
from loadtests.offline.worker import EngineSpec, Worker
from training.models.transformer import TransformerSettings

WORDS = 1_000
SETTINGS = TransformerSettings(
    dim=512, heads=8, feedforward_dim=4096, encoder_layers=1, decoder_layers=1, norm="post", tie="all"
)
_FEW = replace(SETTINGS, dim=32, feedforward_dim=64)
LIMIT = 1.3  # times the files


def loaded(bundle: Path, precision: str) -> int:
    """Peak memory of a process that has opened the bundle for two workers, in bytes."""
    with Worker(EngineSpec("dragoman", f"{precision}*2", bundle), threads=2) as worker:
        return worker.memory().peak


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_bundle(tmp_path_factory.mktemp("models"), "wide", SETTINGS, WORDS)


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with hardly any weights: what a process takes by itself."""
    return random_bundle(tmp_path_factory.mktemp("models"), "narrow", _FEW, 100)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_loading_takes_little_more_than_the_files(bundle: Path, small_bundle: Path, precision: str) -> None:
    files, own = (sum(path.stat().st_size for path in folder.iterdir()) for folder in (bundle, small_bundle))
    more = loaded(bundle, precision) - loaded(small_bundle, precision)
    print(f"\n{precision}: {more / 1e6:.1f} MB more for {(files - own) / 1e6:.1f} MB of files")
    assert files - own > 50e6
    assert more < LIMIT * (files - own)
