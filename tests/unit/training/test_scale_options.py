"""What makes larger models and longer runs possible changes no result."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.unit.training.tiny_run import TRANSFORMER, tiny_config
from training.activation_checkpointing import recompute_layers
from training.checkpoint import KEY, load, read_checkpoint
from training.cli import main
from training.config import TrainingConfig
from training.data.batches import make_batch
from training.errors import CheckpointError, ModelError
from training.flops import FlopModel, peak_flops
from training.models.build import ModelSettings, build_model
from training.models.contract import LanguageModel, Vocabulary
from training.models.decoder_only import DecoderOnlySettings
from training.models.rnn import RnnSettings
from training.models.transformer import TransformerSettings
from training.parallel import layers_of
from training.progress import read_rows
from training.run import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]
SMALL = TransformerSettings(dim=16, heads=2, feedforward_dim=32, encoder_layers=3, decoder_layers=2)


def losses(config: TrainingConfig) -> list[float]:
    run(config)
    return [row["loss"] for row in read_rows(config.run_dir / "metrics.jsonl")]


def gradients(model: LanguageModel) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    batch = make_batch([[5, 6, 7], [8]], [[9], [10, 11]], model.vocabulary)
    model(batch.source, batch.lengths, batch.target_in).logsumexp(-1).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_recomputed_layers_give_the_same_gradients(vocabulary: Vocabulary) -> None:
    model = build_model(replace(SMALL, dropout=0.3), vocabulary)
    other = copy.deepcopy(model)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    recompute_layers(other)
    layers_of(other)[0].feed_forward.register_forward_hook(count)  # type: ignore[union-attr]
    found, expected = gradients(other), gradients(model)
    assert calls == 2  # once forward, once backward
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ModelError, match="has no stack of layers"):
        recompute_layers(torch.nn.Linear(2, 2))


def test_compiled_accumulated_and_low_precision_runs(tmp_path: Path) -> None:
    model = {"model": {**TRANSFORMER, "dropout": 0.2}}
    plain = losses(tiny_config(tmp_path, **model, trainer={"accumulate": 2}))
    for name, trainer, tolerance in (
        ("compiled", {"accumulate": 2, "compile": "aot_eager", "max_steps": 1}, 1e-4),
        ("recomputed", {"accumulate": 2, "recompute": True}, 0.0),
        ("bfloat", {"accumulate": 2, "precision": "bf16-mixed"}, 0.02),
    ):
        config = tiny_config(tmp_path, **model, trainer=trainer)
        found = losses(config.model_copy(update={"run_dir": tmp_path / name}))
        assert found == pytest.approx(plain[: len(found)], rel=tolerance, abs=0), name


def test_stops_early_and_keeps_checkpoints_that_can_be_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(
        tmp_path,
        # A rate too small to change what is translated: every validation after the first is no better.
        optimizer={"learning_rate": 1e-7},
        validation={"patience": 3, "every_steps": 2, "metric": "chrf"},
        trainer={"max_steps": 1000, "keep_checkpoints": 2},
    )
    result = run(config)
    assert (result.best_step, result.step) == (2, 8)
    assert json.loads((config.run_dir / "result.json").read_text(encoding="utf-8"))["step"] == 8
    kept = sorted(config.run_dir.glob("step-*.ckpt"))
    assert [path.name for path in kept] == ["step-00000006.ckpt", "step-00000008.ckpt"]
    assert [row["step"] for row in read_rows(config.run_dir / "validation.jsonl")] == [2, 4, 6, 8]
    picture = (config.run_dir / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000

    out = config.run_dir / "mean.ckpt"
    assert main(["average", *map(str, kept), "--out", str(out)]) == 0
    states = [read_checkpoint(path)[KEY]["average"] for path in kept]
    for name, tensor in load(out).model.named_parameters():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)
    other = tiny_config(tmp_path, trainer={"max_steps": 1}, model={**TRANSFORMER, "dim": 32})
    run(other.model_copy(update={"run_dir": tmp_path / "other"}))
    capsys.readouterr()
    assert main(["average", str(out), str(tmp_path / "other" / "last.ckpt"), "--out", str(tmp_path / "x")]) == 1
    assert "is of another model or vocabulary than" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_time_limit_ends_a_run_between_steps(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, trainer={"max_steps": 100_000, "max_time": "00:00:00:01", "accumulate": 2})
    result = run(config)
    assert 0 < result.step < 100_000
    assert load(config.run_dir / "last.ckpt").step == result.step


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        replace(SMALL, tie="none", output_bias=True),
        # No LSTM: the counter does not see the products of the CPU's fused kernel.
        RnnSettings(embedding_dim=12, hidden_dim=20, cell="gru", attention_dim=8),
        RnnSettings(embedding_dim=12, hidden_dim=20, cell="gru", encoder_layers=2, attention="luong_general"),
        RnnSettings(embedding_dim=12, hidden_dim=20, cell="rnn", attention="context", bidirectional=False),
        DecoderOnlySettings(dim=16, heads=4, kv_heads=1, feedforward_dim=24, layers=2),
    ],
)
def test_operations_are_those_that_pytorch_counts(settings: ModelSettings) -> None:
    model = build_model(settings, Vocabulary(50, 50))
    batch = make_batch([[5] * 20] * 3, [[7] * 13] * 3, model.vocabulary)
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        hidden = model.hidden(batch.source, batch.lengths, batch.target_in)
        model.project_vocab(hidden[batch.mask]).sum().backward()
    # The counter leaves out the gradient by the embeddings, which are looked up, not multiplied.
    assert FlopModel(model).of(batch) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_operations_of_a_transformer_are_six_a_weight_and_token() -> None:
    settings = TransformerSettings(dim=64, heads=4, feedforward_dim=256, encoder_layers=2, decoder_layers=2)
    model = build_model(settings, Vocabulary(500, 500))
    rows, source, target = 2, 9, 9
    batch = make_batch([[5] * (source - 1)] * rows, [[7] * (target - 1)] * rows, model.vocabulary)
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 256)
    decoder = 2 * (8 * 64 * 64 + 2 * 64 * 256) + 500 * 64
    attention = 2 * 2 * (2 * source * source + 2 * target * target + 2 * source * target) * 64
    expected = 6 * rows * (encoder * source + decoder * target) + 3 * rows * attention
    assert FlopModel(model).of(batch) == pytest.approx(expected, rel=1e-6)


def test_the_peak_is_known_by_the_name_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_flops(torch.device("cpu")) is None
    for name, peak in (
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("X40", None),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device, name=name: name)
        assert peak_flops(torch.device("cuda")) == peak


def test_only_checkpoints_are_averaged(tmp_path: Path) -> None:
    from training.commands.checkpoint_averaging import average_checkpoints

    np.save(tmp_path / "a.npy", np.zeros(2))
    with pytest.raises(CheckpointError, match="cannot be read"):
        average_checkpoints([tmp_path / "a.npy"], tmp_path / "out")
