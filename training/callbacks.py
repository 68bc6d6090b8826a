"""Callbacks around the steps: averaged weights, checkpoints, early stopping and the time limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback, Checkpoint, Timer

from training.data.batches import Batch
from training.lightning_module import TrainingTask


def ends_step(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Tell whether a batch is the last of its optimizer step."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class AverageWeights(Callback):
    """Update the running average after every optimizer step."""

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Note where the run starts or resumes."""
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Follow the weights; an accumulating batch changes none."""
        if isinstance(task, TrainingTask) and trainer.global_step != self._seen_step:
            self._seen_step = trainer.global_step
            task.average.update()


class StepTimer(Timer):
    """Ends training when its time is up, between two steps: a resumed run goes on as if it had never stopped."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock after a whole step."""
        if ends_step(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class BestAndLast(Checkpoint):
    """Keep ``last.ckpt`` (every so many steps and after each validation) and ``best.ckpt`` (best validation score).

    Args:
        directory: Where they go.
        every_steps: Optimizer steps between two saves of ``last.ckpt``.
        metric: ``bleu``, ``chrf`` or ``loss``.
        keep: Keep so many of the latest ``last.ckpt`` as ``step-N.ckpt`` too, to be averaged.
        patience: Stop after so many validations in a row without a new best; None never does.
    """

    def __init__(
        self, directory: Path, every_steps: int, metric: str, *, keep: int = 0, patience: int | None = None
    ) -> None:
        self.directory, self.every_steps, self.metric = directory, every_steps, metric
        self.keep, self.patience = keep, patience
        self.best: float | None = None
        self.best_step = 0
        self.validations_since_best = 0

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint."""
        return "best_and_last"

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "metric": self.metric,
            "validations_since_best": self.validations_since_best,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score over, if it is of the same metric."""
        if state_dict["metric"] == self.metric:
            self.best, self.best_step = state_dict["best"], state_dict.get("best_step", 0)
            self.validations_since_best = state_dict.get("validations_since_best", 0)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save ``last.ckpt`` when it is time, unless a validation follows at once and saves it."""
        if not ends_step(trainer, batch_idx) or (batch_idx + 1) % int(trainer.val_check_interval) == 0:
            return
        if trainer.global_step % self.every_steps == 0:
            self._save_last(trainer, task)

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Save ``last.ckpt``, and ``best.ckpt`` if the score is a new best; stop if there was none for too long."""
        if trainer.sanity_checking or not isinstance(task, TrainingTask):
            return
        score = task.scores[self.metric]
        sign = -1.0 if self.metric == "loss" else 1.0
        better = self.best is None or sign * score > sign * self.best
        self.validations_since_best = 0 if better else self.validations_since_best + 1
        if better:
            self.best, self.best_step = score, trainer.global_step
        self._save_last(trainer, task)
        if better:
            trainer.save_checkpoint(self.directory / "best.ckpt")
        if self.patience is not None and self.validations_since_best >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Save ``last.ckpt`` wherever the run ends, be it at its last step or at its time limit."""
        self._save_last(trainer, task)

    def _save_last(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if isinstance(task, TrainingTask):
            task.checked_loss()  # weights that are no numbers never replace a checkpoint
        last = self.directory / "last.ckpt"
        trainer.save_checkpoint(last)
        if self.keep and trainer.is_global_zero:
            kept = self.directory / f"step-{trainer.global_step:08d}.ckpt"
            kept.unlink(missing_ok=True)
            # A second name of the same file: the next save gives `last.ckpt` a new one.
            os.link(last, kept)
            for old in sorted(self.directory.glob("step-*.ckpt"))[: -self.keep]:
                old.unlink()
