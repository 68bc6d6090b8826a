"""Two processes train as one does on the same global batch, whether each holds the whole model or half of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.training.tiny_run import TRANSFORMER, tiny_tree
from training.checkpoint import load
from training.config import parse_config
from training.progress import read_rows
from training.run import run

STEPS = 12


def tree_for(folder: Path, **trainer: Any) -> dict[str, Any]:
    tree = tiny_tree(folder)
    tree["model"] = {**TRANSFORMER, "dropout": 0.2, "encoder_layers": 2}
    tree["batch"] = {"tokens": 60}
    tree["validation"]["every_steps"] = 5
    tree["trainer"] |= {"max_steps": STEPS, "threads": 1, "checkpoint_every_steps": 4, **trainer}
    return tree


def train(tree: dict[str, Any], run_dir: Path, *overrides: str) -> list[float]:
    """Loss of every step."""
    config = run_dir.with_suffix(".yaml")
    config.write_text(yaml.safe_dump({**tree, "run_dir": str(run_dir)}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "training", str(config), *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [row["loss"] for row in read_rows(run_dir / "metrics.jsonl")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("alone")
    run(parse_config(tree_for(folder, accumulate=2)))
    losses = [row["loss"] for row in read_rows(folder / "run" / "metrics.jsonl")]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    return folder, losses


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*litlogger.*")
@pytest.mark.parametrize(("strategy", "stops"), [("ddp", ()), ("fsdp", (6,))])
def test_two_processes_give_the_losses_of_one(
    tmp_path: Path, alone: tuple[Path, list[float]], strategy: str, stops: tuple[int, ...]
) -> None:
    folder, expected = alone
    tree = tree_for(tmp_path, devices=2, strategy=strategy)
    for stop in stops:  # and resumed
        first = train(tree, tmp_path / "run", f"trainer.max_steps={stop}")
        assert first == pytest.approx(expected[:stop], rel=1e-4)
    assert train(tree, tmp_path / "run") == pytest.approx(expected, rel=1e-4)
    one, two = load(folder / "run" / "last.ckpt"), load(tmp_path / "run" / "last.ckpt")
    assert two.step == STEPS
    theirs = two.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        assert (tensor - theirs[name]).abs().max() < 1e-3, name
    assert two.scores["loss"] == pytest.approx(one.scores["loss"], rel=1e-4)
