"""Verification tells its user early what will make it long."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.trained_model import TrainedModel
from export.verify import translate_in_torch
from tests.unit.training.tiny_run import tiny_config
from training.checkpoint import load
from training.run import run


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
def test_a_model_that_does_not_end_its_sentences_is_named_early(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(tmp_path)
    run(config)
    trained = TrainedModel.of(load(config.run_dir / "last.ckpt"))  # three steps teach it nothing
    ids = [[4 + number % 7, 5] for number in range(25)]
    found = translate_in_torch(trained, ids, 1, 6)
    assert len(found) == 25
    endless = sum(len(tokens) == 6 for tokens in found[:20])
    assert endless > 10
    assert f"{endless} of the first 20 translations reach the limit of 6 tokens" in caplog.text
