"""Progress of a run: lines in the log and in two files, TensorBoard, and a picture of its curves."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback

from training.callbacks import ends_step
from training.data.batches import Batch
from training.errors import TrainingError
from training.flops import FlopModel, peak_flops
from training.lightning_module import TrainingTask

_LOG = logging.getLogger(__name__)

SECONDS_BETWEEN_PICTURES = 60.0


class Progress(Callback):
    """Writes steps to ``metrics.jsonl`` and validations to ``validation.jsonl``, and draws both as ``curves.png``.

    Args:
        directory: Where they go.
        every_steps: Optimizer steps between two lines of ``metrics.jsonl``.
        flops: Counts operations, for the share of a GPU's peak; None where there is no GPU.
    """

    def __init__(self, directory: Path, every_steps: int, flops: FlopModel | None = None) -> None:
        self.steps, self.validations = directory / "metrics.jsonl", directory / "validation.jsonl"
        self.picture, self.every_steps, self.flops = directory / "curves.png", every_steps, flops
        self._drawn = 0.0

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Start counting, once everything is loaded."""
        self._restart()

    def _restart(self) -> None:
        self._tokens, self._flops, self._since = 0.0, 0.0, time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log loss (nats a token), learning rate, target tokens a second and, on a GPU, the share of its peak.

        Raises:
            DivergedError: If the loss is not a number.
        """
        self._tokens += batch.normaliser * trainer.world_size
        if self.flops is not None:
            self._flops += self.flops.of(batch)
        step_is_due = ends_step(trainer, batch_idx) and trainer.global_step % self.every_steps == 0
        if not step_is_due or not isinstance(task, TrainingTask):
            return
        row = {
            "step": trainer.global_step,
            "loss": task.checked_loss(),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "epoch": batch.after.epoch,
        }
        elapsed = max(time.monotonic() - self._since, 1e-9)
        row["tokens_per_second"] = self._tokens / elapsed
        peak = peak_flops(task.device) if self.flops is not None else None
        if peak is not None:
            row["model_flops_utilisation"] = self._flops / elapsed / peak
        self._restart()
        task.log_dict({f"train/{name}": float(value) for name, value in row.items() if name not in {"step", "epoch"}})
        if trainer.is_global_zero:
            _append(self.steps, row)
            shown = f", {100 * row['model_flops_utilisation']:.1f} % of the GPU's peak" if peak is not None else ""
            _LOG.info(
                "step %d: loss %.4f, learning rate %.2e, pass %d, %.0f tokens/s%s",
                *(row[name] for name in ("step", "loss", "learning_rate", "epoch", "tokens_per_second")),
                shown,
            )

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Log the scores, and draw the curves if that was not done of late."""
        if trainer.sanity_checking or not isinstance(task, TrainingTask) or not trainer.is_global_zero:
            return
        _append(self.validations, {"step": trainer.global_step, **task.scores})
        _LOG.info(
            "step %d: validation %s",
            trainer.global_step,
            ", ".join(f"{name} {value:.3f}" for name, value in task.scores.items()),
        )
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_PICTURES:
            self._draw()

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        """Draw the curves a last time."""
        if trainer.is_global_zero:
            self._draw()

    def _draw(self) -> None:
        # Imported late: matplotlib takes a second to load.
        from training.plots import draw_curves

        try:
            draw_curves(read_rows(self.steps), read_rows(self.validations), self.picture)
        except TrainingError as error:  # no reason to end a run
            _LOG.warning("%s", error)
        self._drawn = time.monotonic()


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines, the last one for each step, in order; none if there is no file."""
    if not path.is_file():
        return []
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    latest = {row["step"]: row for row in rows}
    return [latest[step] for step in sorted(latest)]
