"""Masked language modelling hides what it should, and a translation model starts from its encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.tiny_run import tiny_config, tiny_tree
from training.checkpoint import load, load_any
from training.config import TrainingConfig, parse_config
from training.data.batches import make_batch
from training.errors import CheckpointError, ModelError
from training.models.build import build_model
from training.models.contract import Vocabulary
from training.models.transformer import TransformerSettings
from training.pretraining import MaskedLanguageTask, mask_tokens
from training.progress import read_rows
from training.run import prepare, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]
ENCODER = {"dim": 16, "heads": 2, "feedforward_dim": 32, "encoder_layers": 2}


def test_tokens_are_hidden_as_in_bert() -> None:
    vocabulary = Vocabulary(1000, 1000)
    rows = torch.randint(4, 1000, (200, 50)).tolist()
    batch = make_batch([row[: 50 - i % 7] for i, row in enumerate(rows)], rows, vocabulary)
    torch.manual_seed(0)
    masked = mask_tokens(batch, vocabulary)
    real = torch.arange(51) < batch.lengths[:, None] - 1
    chosen = masked.mask
    assert not (chosen & ~real).any(), "an end token or padding is to be predicted"
    assert torch.equal(masked.target_out, batch.source)
    assert torch.equal(masked.source[~chosen], batch.source[~chosen])
    count = int(chosen.sum())
    assert count / int(real.sum()) == pytest.approx(0.15, abs=0.01)
    seen, original = masked.source[chosen], batch.source[chosen]
    hidden = seen == vocabulary.decoder_start
    assert int(hidden.sum()) / count == pytest.approx(0.8, abs=0.03)
    assert int((seen == original).sum()) / count == pytest.approx(0.1, abs=0.03)
    assert int((~hidden & (seen != original)).sum()) / count == pytest.approx(0.1, abs=0.03)
    assert int(seen[~hidden].min()) > vocabulary.eos


def masked_config(folder: Path, **sections: dict[str, Any]) -> TrainingConfig:
    """A run on monolingual text: the same file on both sides."""
    tree = tiny_tree(folder)
    lines = [f"word{i % 7} and word{i % 5}\n" for i in range(200)]
    (folder / "mono.txt").write_text("".join(lines), encoding="utf-8")
    files = {"source": str(folder / "mono.txt"), "target": str(folder / "mono.txt")}
    filters = {"drop_identical": False, "drop_duplicates": False}
    tree["data"] = {"train": files, "valid": files, "filters": filters}
    tree["tokenizer"] = {"vocab_size": 275}
    tree["model"] = {"family": "masked_lm", **ENCODER}
    tree["run_dir"] = str(folder / "mlm")
    tree["validation"]["metric"] = "loss"
    for name, values in sections.items():
        tree[name] |= values
    return parse_config(tree)


def test_a_masked_language_model_learns(tmp_path: Path) -> None:
    trainer = {"max_steps": 150, "checkpoint_every_steps": 150, "log_every_steps": 30}
    steps = {"every_steps": 50, "max_pairs": 40}
    optimizer = {"learning_rate": 5e-3, "warmup_steps": 10, "average_decay": 0.9}
    config = masked_config(tmp_path, trainer=trainer, validation=steps, optimizer=optimizer)
    result = run(config)
    assert result.metric == "loss"
    # Of 275 tokens a guess costs 5.6 nats; how many words there are, and that "and" is always second, is soon learnt.
    assert result.best is not None
    assert result.best < 3.0
    assert load_any(config.run_dir / "best.ckpt").scores.keys() == {"loss"}


def test_validation_hides_the_same_tokens_each_time(tmp_path: Path) -> None:
    config = masked_config(tmp_path, optimizer={"learning_rate": 1e-30, "warmup_steps": 1})
    run(config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_steps": 6})}))
    found = [row["loss"] for row in read_rows(config.run_dir / "validation.jsonl")]
    assert len(found) == 3
    assert len(set(found)) == 1


def test_translation_starts_from_the_encoder(tmp_path: Path) -> None:
    pretraining = masked_config(tmp_path)
    run(pretraining)
    start = load_any(pretraining.run_dir / "best.ckpt")
    path = pretraining.run_dir / "best.ckpt"
    config = tiny_config(tmp_path, model={**ENCODER, "decoder_layers": 1}).model_copy(update={"init_from": path})
    config.run_dir.mkdir()
    corpus, model = prepare(config)
    assert corpus.source.model == corpus.target.model == start.source_tokenizer_bytes
    theirs = start.model.state_dict()
    shared = [name for name in model.state_dict() if name in theirs]
    assert {"source_embedding.weight", "encoder_norm.weight", "encoder_layers.1.feed_forward.expand.weight"} <= {
        *shared
    }
    assert not [name for name in shared if not torch.equal(model.state_dict()[name], theirs[name])]
    fresh = build_model(config.model, model.vocabulary).state_dict()
    assert all(name in theirs for name in fresh if name.startswith(("encoder", "source")))
    run(config)
    assert load(config.run_dir / "last.ckpt").source_tokenizer_bytes == start.source_tokenizer_bytes


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pretraining = masked_config(tmp_path)
    run(pretraining)
    path = pretraining.run_dir / "best.ckpt"
    config = tiny_config(tmp_path).model_copy(update={"init_from": path})
    config.run_dir.mkdir()
    sizes: dict[str, Any] = {**ENCODER, "feedforward_dim": 24, "decoder_layers": 1}
    with pytest.raises(CheckpointError, match=r"expand.weight of shape \(32, 16\), but this .* \(24, 16\)"):
        prepare(config.model_copy(update={"model": TransformerSettings(**sizes)}))
    other = replace(config.tokenizer, path=tmp_path / "t.tsv")
    with pytest.raises(CheckpointError, match="trained with another one"):
        prepare(config.model_copy(update={"tokenizer": other}))


def test_a_masked_language_model_does_not_translate(tmp_path: Path) -> None:
    trained = masked_config(tmp_path)
    run(trained)
    with pytest.raises(CheckpointError, match="does not translate"):
        load(trained.run_dir / "best.ckpt")
    config = masked_config(tmp_path, validation={"metric": "bleu"})
    corpus, built = prepare(config)
    with pytest.raises(ModelError, match=r"validation.metric is 'bleu'"):
        MaskedLanguageTask(config, built, corpus, None)  # type: ignore[arg-type]
