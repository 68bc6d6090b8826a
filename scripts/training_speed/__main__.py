"""Target tokens a second of Dragoman's trainer and of Hugging Face's, taking turns over the same batches.

    python -m scripts.training_speed CONFIG [key=value ...] [--steps 40] [--rounds 3]

Needs the extras ``peer`` and ``train-peer``. The model is post-norm, as MarianMT is, whatever the configuration says.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from loadtests.report import finite, machine, versions
from scripts.training_speed import dragoman_trainer, marian_trainer
from scripts.training_speed.batches import prepare
from training.config import load_config
from training.models.transformer import TransformerSettings

WARM_UP = 5  # steps of each turn that are not counted

TRAINERS = {"dragoman": dragoman_trainer.step_times, "marian": marian_trainer.step_times}


def main() -> None:
    """Run the comparison and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m scripts.training_speed")
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--steps", type=int, default=40, help="steps of a turn (default: 40)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each trainer (default: 3)")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    quiet = ["trainer.progress_bar=false", "trainer.tensorboard=false", "trainer.devices=1", "trainer.strategy=auto"]
    quiet += [f"trainer.max_steps={options.steps}", "trainer.log_every_steps=1000000"]
    config = load_config(options.config, [*options.overrides, *quiet])
    if not isinstance(config.model, TransformerSettings):
        parser.error("MarianMT is a Transformer; give a configuration of one")
    model = replace(config.model, norm="post", output_bias=True)
    config = config.model_copy(update={"model": model})
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    with tempfile.TemporaryDirectory() as folder:
        cache = config.cache_dir or Path(folder) / "cache"
        workload = prepare(config, options.steps, cache)
        speeds: dict[str, list[float]] = {name: [] for name in TRAINERS}
        for turn in range(options.rounds):
            for name, train in TRAINERS.items():
                times = train(config, workload, Path(folder) / f"{name}-{turn}")
                counted = sum(workload.target_tokens[WARM_UP:])
                speeds[name].append(counted / (times[-1] - times[WARM_UP - 1]))
    ratios = [ours / theirs for ours, theirs in zip(speeds["dragoman"], speeds["marian"], strict=True)]
    report = {
        "target_tokens_per_second": speeds,
        "median": {name: statistics.median(found) for name, found in speeds.items()},
        "ratio": {"each": ratios, "median": statistics.median(ratios)},
        "steps": options.steps - WARM_UP,
        "precision": config.trainer.precision,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else machine()["processor"],
        "versions": versions(),
    }
    print(json.dumps(finite(report), indent=1))


if __name__ == "__main__":
    main()
