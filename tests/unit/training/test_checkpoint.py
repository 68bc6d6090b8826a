"""A checkpoint stands alone: trained here in-process for two steps, then loaded with nothing else at hand."""

import shutil
from pathlib import Path

import pytest
import torch
from pytorch_lightning import seed_everything

from tests.unit.training.tiny_run import tiny_config
from training.checkpoint import AtomicCheckpointIO, load, pack_bytes, read_checkpoint, unpack_bytes
from training.data.tokenizer import load_tokenizer
from training.decode import DecodeOptions, translate
from training.ema import WeightAverage
from training.errors import CheckpointError
from training.models.build import build_model
from training.models.contract import Vocabulary
from training.models.transformer import TransformerSettings
from training.run import run


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
def test_checkpoint_round_trip(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    run(config)
    other = config.model_copy(update={"model": TransformerSettings(dim=32, heads=2)})
    with pytest.raises(CheckpointError, match="another run_dir"):
        run(other)
    moved = tmp_path / "elsewhere.ckpt"
    shutil.move(config.run_dir / "last.ckpt", moved)
    best = load(config.run_dir / "best.ckpt")
    shutil.rmtree(config.run_dir)
    loaded = load(moved)
    assert (loaded.step, best.step) == (3, 2)
    assert loaded.config == config
    assert set(loaded.scores) == {"bleu", "chrf", "loss"}
    assert loaded.source_tokenizer_bytes == loaded.target_tokenizer_bytes
    assert not loaded.model.training
    ids = load_tokenizer(loaded.source_tokenizer_bytes).encode(["word1 and word2"])
    assert translate(loaded.model, ids, DecodeOptions(max_length=4))[0][0].tokens
    # What is loaded is the average, not the live weights.
    raw = read_checkpoint(moved)
    name = "encoder_layers.0.feed_forward.expand.weight"
    parameter = dict(loaded.model.named_parameters())[name]
    assert torch.equal(parameter, raw["dragoman"]["average"][name])
    assert not torch.equal(parameter, raw["state_dict"][f"model.{name}"])


def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load(tmp_path / "none.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "bad.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a Dragoman checkpoint"):
        load(tmp_path / "other.ckpt")


def test_write_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)

    def crash(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(CheckpointError, match=r"cannot be written \(power cut\), the one before is kept; make room"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    with pytest.raises(CheckpointError, match="there is none yet"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path.with_name("other.ckpt"))
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_bytes_survive_packing() -> None:
    data = bytes(range(256)) * 3
    assert unpack_bytes(pack_bytes(data)) == data


def test_the_average_follows_the_model_to_its_device() -> None:
    settings = TransformerSettings(dim=8, heads=2, encoder_layers=1, tie="none")
    model = build_model(settings, Vocabulary(9, 9, shared=False))
    average = WeightAverage(model, decay=0.5)
    average.follow(model.to("meta"))
    average.update()
    found = average.state_dict()
    del found["updates"]
    assert {torch.as_tensor(value).device.type for value in found.values()} == {"meta"}


def test_average_follows_the_weights_and_swaps_back() -> None:
    seed_everything(0, verbose=False)
    model = build_model(TransformerSettings(dim=8, heads=2, encoder_layers=1), Vocabulary(9, 9))
    average = WeightAverage(model, decay=0.75)
    weight = next(model.parameters())
    with torch.no_grad():
        expected = weight.clone()
        for update in (1, 2, 30):
            average.updates = update - 1
            weight.add_(1.0)
            average.update()
            decay = min(0.75, (1 + update) / (10 + update))
            expected = decay * expected + (1 - decay) * weight
    live = weight.detach().clone()
    average.swap()
    torch.testing.assert_close(weight.detach(), expected)
    average.swap()
    assert torch.equal(weight, live)
    other = WeightAverage(build_model(TransformerSettings(dim=8, heads=2, encoder_layers=1), Vocabulary(9, 9)), 0.9)
    other.load_state_dict(average.state_dict())
    assert other.updates == 30


def test_an_empty_or_cut_checkpoint_says_so_and_names_the_one_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.touch()
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be read: it is empty; .* delete it to start over"):
        read_checkpoint(path)
    torch.save({"weights": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"it is cut off or damaged \(.+\); best\.ckpt beside it may be intact"):
        read_checkpoint(path)
