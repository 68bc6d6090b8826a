"""Dragoman's own trainer over given batches: as ``dragoman-train`` runs it, without validation."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as lightning
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from scripts.training_speed.batches import Workload, moment
from training.callbacks import BestAndLast
from training.checkpoint import vocabulary_of
from training.config import TrainingConfig
from training.lightning_module import TranslationTask, ValidationSet
from training.models.build import build_model
from training.run import FixedBatches, make_trainer


class _Clock(lightning.Callback):
    """Callback that keeps the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        self.times.append(moment())


def step_times(config: TrainingConfig, workload: Workload, directory: Path) -> list[float]:
    """Train on each batch once; return the time after each step, seconds of ``time.perf_counter``."""
    directory.mkdir()
    run = config.model_copy(update={"run_dir": directory})
    torch.manual_seed(config.seed)
    model = build_model(config.model, vocabulary_of(workload.corpus.source, workload.corpus.target))
    task = TranslationTask(run, model, workload.corpus, ValidationSet([], [], []))
    clock = _Clock()
    trainer = make_trainer(run, BestAndLast(directory, 10**9, "loss"), None)
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    on_cpu = trainer.strategy.root_device.type == "cpu"
    with sdpa_kernel([SDPBackend.MATH] if on_cpu else [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        trainer.fit(task, FixedBatches(workload.batches))
    return clock.times
