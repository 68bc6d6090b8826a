"""What happens around the steps: the averaged weights, checkpoints, and a log of the loss."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback, Checkpoint

from training.data.batches import Batch
from training.lightning_module import TranslationTask

logger = logging.getLogger(__name__)


class AverageWeights(Callback):
    """Update the running average after every optimizer step."""

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Note where the run starts or resumes."""
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Follow the weights; an accumulating batch changes none."""
        if isinstance(task, TranslationTask) and trainer.global_step != self._seen_step:
            self._seen_step = trainer.global_step
            task.average.update()


class BestAndLast(Checkpoint):
    """Keep `last.ckpt` (every so many steps and after each validation) and `best.ckpt` (best validation score).

    Args:
        directory: Where they go.
        every_steps: Optimizer steps between two saves of `last.ckpt`.
        metric: `bleu`, `chrf` or `loss`.
    """

    def __init__(self, directory: Path, every_steps: int, metric: str) -> None:
        self.directory, self.every_steps, self.metric = directory, every_steps, metric
        self.best: float | None = None

    @property
    def state_key(self) -> str:
        """Name of this callback's state in a checkpoint."""
        return "best_and_last"

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best, "metric": self.metric}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score over, if it is of the same metric."""
        self.best = state_dict["best"] if state_dict["metric"] == self.metric else None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save `last.ckpt` when it is time, unless a validation follows at once and saves it."""
        batches = batch_idx + 1
        if batches % trainer.accumulate_grad_batches or batches % int(trainer.val_check_interval) == 0:
            return
        if trainer.global_step % self.every_steps == 0:
            trainer.save_checkpoint(self.directory / "last.ckpt")

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Save `last.ckpt`, and `best.ckpt` if the score is a new best."""
        if trainer.sanity_checking or not isinstance(task, TranslationTask):
            return
        score = task.scores[self.metric]
        sign = -1.0 if self.metric == "loss" else 1.0
        better = self.best is None or sign * score > sign * self.best
        if better:
            self.best = score
        trainer.save_checkpoint(self.directory / "last.ckpt")
        if better:
            trainer.save_checkpoint(self.directory / "best.ckpt")
        if trainer.is_global_zero:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in task.scores.items())
            logger.info("step %d: validation %s%s", trainer.global_step, shown, " (best)" if better else "")

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Save `last.ckpt` wherever the run ends, be it at its last step or at its time limit."""
        trainer.save_checkpoint(self.directory / "last.ckpt")


class StepLog(Callback):
    """Write the training loss to `metrics.jsonl`, to the log and to TensorBoard every so many steps."""

    def __init__(self, directory: Path, every_steps: int) -> None:
        self.path, self.every_steps = directory / "metrics.jsonl", every_steps
        self._tokens, self._since = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log this step's loss (nats per token), learning rate, and target tokens per second since the last line."""
        self._tokens += batch.target_out.shape[0] * batch.target_out.shape[1] * trainer.world_size
        boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not boundary or trainer.global_step % self.every_steps:
            return
        now = time.monotonic()
        speed = self._tokens / max(now - self._since, 1e-9)
        self._tokens, self._since = 0, now
        loss, rate = float(outputs["loss"]), trainer.optimizers[0].param_groups[0]["lr"]
        task.log_dict({"train/loss": loss, "train/learning_rate": rate, "train/tokens_per_second": speed})
        if trainer.is_global_zero:
            row = {"step": trainer.global_step, "loss": loss, "learning_rate": rate, "epoch": batch.after.epoch}
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            logger.info(
                "step %d: loss %.4f, learning rate %.2e, pass %d, %.0f tokens/s",
                trainer.global_step,
                loss,
                rate,
                batch.after.epoch,
                speed,
            )
