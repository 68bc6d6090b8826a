"""The whole way by its commands: train, export with verification, serve, translate over gRPC, and count exact answers.

The task can be learnt in a minute but not guessed: digits in words come back reversed and in German.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.families import WORDS
from serving.bundle.bundle import load_bundle
from serving.client import Options, TranslationClient
from tests.system.served import server

MODELS = {
    "transformer": "{family: transformer, dim: 64, heads: 4, feedforward_dim: 128, encoder_layers: 2,"
    " decoder_layers: 1, dropout: 0.0}",
    "rnn": "{family: rnn, cell: gru, embedding_dim: 32, hidden_dim: 64, attention_dim: 32, dropout: 0.0}",
}
# Pieces enough that every number is one. Beam search ends once four hypotheses have ended; where a number is spelt in
# several pieces, those that lack one of them end first.
CONFIG = """
languages: [en, de]
run_dir: {folder}/run
cache_dir: {folder}/cache
data:
  train: {{tsv: {folder}/train.tsv}}
  valid: {{tsv: {folder}/valid.tsv}}
tokenizer: {{vocab_size: 301}}
model: {model}
batch: {{tokens: 1500, window: 2000}}
optimizer: {{learning_rate: 5.0e-3, warmup_steps: 100, cooldown: 0.5, label_smoothing: 0.0, average_decay: 0.98}}
validation: {{every_steps: 250, max_pairs: 40, max_length: 20}}
trainer:
  max_steps: {steps}
  accelerator: cpu
  threads: 1
  checkpoint_every_steps: 100
  progress_bar: false
  tensorboard: false
"""
STEPS = {"transformer": 1000, "rnn": 750}
NUMBERS = list(WORDS)[1:11]
SERVED = 128  # the texts that one call may hold


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    rows = [[draw.choice(NUMBERS) for _ in range(draw.randint(2, 7))] for _ in range(count)]
    return [(" ".join(row), " ".join(WORDS[word] for word in reversed(row))) for row in rows]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.parametrize("family", sorted(MODELS))
def test_trained_exported_and_served(family: str, tmp_path: Path) -> None:
    for name, count, seed in (("train", 20_000, 1), ("valid", 60, 2)):
        text = "".join(f"{source}\t{target}\n" for source, target in pairs(count, seed))
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    held_out = pairs(500, 3)
    (tmp_path / "test.en").write_text("\n".join(source for source, _ in held_out) + "\n", encoding="utf-8")
    (tmp_path / "test.de").write_text("\n".join(target for _, target in held_out) + "\n", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=tmp_path, model=MODELS[family], steps=STEPS[family]), encoding="utf-8")

    trained = command("training", str(config))
    assert trained.returncode == 0, trained.stderr
    checkpoint, models = tmp_path / "run" / "best.ckpt", tmp_path / "models"
    evidence = ("--sentences", str(tmp_path / "test.en"), "--references", str(tmp_path / "test.de"))
    limits = ("--max-source-tokens", "60", "--max-target-tokens", "60")
    exported = command("export", str(checkpoint), str(models), "--name", "digits", *limits, *evidence)
    assert exported.returncode == 0, exported.stderr
    record = load_bundle(models / "digits" / "1").manifest.precisions["fp32"].verification
    assert record.sentences == 500
    assert record.greedy_equal_ratio == record.beam_equal_ratio == 1.0
    assert record.max_abs_log_prob_difference <= 1e-4
    again = command("export", "--verify", str(models / "digits" / "1"), str(checkpoint), *evidence)
    assert again.returncode == 0, again.stderr

    with server(models) as addresses, TranslationClient(addresses.grpc) as client:
        for beam in (1, 4):
            answer = client.translate([source for source, _ in held_out[:SERVED]], Options(beam_size=beam))
            texts = [translation.hypotheses[0].text for translation in answer.translations]
            right = sum(text == target for text, (_, target) in zip(texts, held_out, strict=False))
            assert right >= 0.98 * SERVED, (beam, right, texts[:3], held_out[:3])
