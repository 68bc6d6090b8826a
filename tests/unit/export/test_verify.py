"""Verification tells its user early what will make it long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import verify
from export.trained_model import TrainedModel
from export.verify import translate_in_torch
from serving.bundle.manifest import Languages, Tokenizer
from tests.unit.training.tiny_run import tiny_config
from training.checkpoint import load
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings
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


def test_a_large_model_s_sentences_are_shared_out_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    settings = TransformerSettings(dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=1)
    files = Tokenizer(kind="words", source="words", target="words")
    model = Transformer(settings, Vocabulary(40, 40)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()  # so that translations differ
    trained = TrainedModel(model, settings, Languages.between("en", "de"), files, {})
    ids = np.random.default_rng(0).integers(5, 40, size=(12, 6)).tolist()
    alone = verify.translate_in_torch(trained, ids, 2, 8)
    assert len({tuple(tokens) for tokens in alone}) > 3
    threads = torch.get_num_threads()
    monkeypatch.setattr(verify, "_LARGE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert verify.translate_in_torch(trained, ids, 2, 8) == alone
    torch.set_num_threads(threads)
