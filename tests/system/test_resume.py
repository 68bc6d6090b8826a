"""A training process is killed with SIGKILL and started again: its losses equal those of a run left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.checkpoint import load

CONFIG = """
languages: [en, de]
run_dir: runs
seed: 7
data:
  train: {{tsv: {folder}/train.tsv}}
  valid: {{tsv: {folder}/valid.tsv}}
  weights: {{a: 1.0, b: 0.5}}
  augmentation: {{variants: 2, joined: 0.1, numbers: 0.1, upper: 0.1, typos: 0.2}}
tokenizer: {{vocab_size: 310}}
model: {model}
batch: {{tokens: 200, window: 100}}
optimizer: {{learning_rate: 3.0e-3, warmup_steps: 10, cooldown: 0.5, average_decay: 0.9}}
validation: {{every_steps: 20, max_pairs: 8, max_length: 12}}
trainer:
  max_steps: 60
  accelerator: cpu
  threads: 1
  accumulate: {accumulate}
  checkpoint_every_steps: 7
  log_every_steps: 1
  progress_bar: false
  tensorboard: false
"""
MODELS = {
    "transformer": "{family: transformer, dim: 16, heads: 2, feedforward_dim: 32, encoder_layers: 1}\n"
    "alignment: {pairs: 200}",
    "rnn": "{family: rnn, embedding_dim: 16, hidden_dim: 16, attention_dim: 16, dropout: 0.3}",
}
DIGITS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}


def write_corpus(folder: Path) -> None:
    draw = random.Random(0)
    for name, count in (("train", 300), ("valid", 20)):
        rows = [[draw.choice(list(DIGITS)) for _ in range(draw.randint(1, 9))] for _ in range(count)]
        lines = (f"{' '.join(r)}\t{' '.join(DIGITS[w] for w in r)}\t{draw.choice('ab')}\n" for r in rows)
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")


def start(config: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "training", str(config), f"run_dir={run_dir}", f"cache_dir={config.parent}/cache"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def losses(run_dir: Path) -> list[tuple[int, float]]:
    """Step and loss of every complete line that the run has logged so far."""
    path = run_dir / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [(row["step"], row["loss"]) for row in rows]


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def kill_after(process: subprocess.Popen[bytes], run_dir: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while not (seen := losses(run_dir)) or seen[-1][0] < step:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"training ended before step {step}: {process.communicate()[1].decode()}")
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(("family", "accumulate", "kills"), [("transformer", 2, (18, 41)), ("rnn", 1, (25,))])
def test_killed_run_resumes_with_the_same_losses(
    tmp_path: Path, family: str, accumulate: int, kills: tuple[int, ...]
) -> None:
    write_corpus(tmp_path)
    config = tmp_path / "config.yaml"
    text = CONFIG.format(folder=tmp_path, model=MODELS[family], accumulate=accumulate)
    config.write_text(text, encoding="utf-8")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(config, whole))
    expected = dict(losses(whole))
    assert sorted(expected) == list(range(1, 61))

    # Killed between two checkpoints, or right after a validation; then allowed to finish.
    for step in kills:
        kill_after(start(config, broken), broken, step)
    finish(start(config, broken))

    found = losses(broken)
    repeated = len(found) - len(dict(found))
    assert repeated > 0, "no step was repeated: the run was not killed behind a checkpoint"
    assert sorted(dict(found)) == list(range(1, 61))
    # Exact equality of every step, those that were computed twice included.
    assert [(step, loss) for step, loss in found if loss != expected[step]] == []

    one, other = load(whole / "last.ckpt"), load(broken / "last.ckpt")
    assert one.step == other.step == 60
    assert one.scores == other.scores
    theirs = other.model.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in one.model.state_dict().items())
