"""Training tasks: loss, optimizer, schedule, validation, and what a checkpoint carries beside the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor

from training.activation_checkpointing import recompute_layers
from training.checkpoint import FORMAT, KEY, pack_bytes
from training.config import TrainingConfig
from training.data.batches import Batch
from training.data.corpus import PreparedCorpus
from training.data.sampler import Position
from training.ema import WeightAverage
from training.errors import DivergedError
from training.evaluation import greedy_ids, score
from training.loss import smoothed_cross_entropy
from training.models.contract import LanguageModel, TranslationModel
from training.parallel import shard
from training.schedule import ScheduleSettings, learning_rate


@dataclass(frozen=True)
class ValidationSet:
    """A small dev set: token ids for the models, references for the scores.

    Attributes:
        sources: Piece ids of each source, without eos.
        references: Texts of the translations, as a person wrote them.
        batches: The same pairs as padded batches, for the loss.
    """

    sources: list[list[int]]
    references: list[str]
    batches: list[Batch]


class TrainingTask(lightning.LightningModule):
    """Trains one model.

    All randomness of a step is drawn from (seed, position of its batch), not from generators that run through the
    whole training. So a resumed run repeats an uninterrupted one, and validating more often changes nothing.
    """

    def __init__(
        self, config: TrainingConfig, model: LanguageModel, corpus: PreparedCorpus, valid: ValidationSet
    ) -> None:
        super().__init__()
        self.config, self.model, self.corpus, self.valid = config, model, corpus, valid
        self.average = WeightAverage(model, config.optimizer.average_decay)
        self.position = Position()
        self.scores: dict[str, float] = {}
        # Not a registered buffer: DDP would overwrite those of all processes by the first one's.
        self._step_loss = torch.zeros(())
        if config.trainer.recompute:
            recompute_layers(model)
        self._hidden: Callable[..., Tensor] = model.hidden
        if config.trainer.compile is not None:
            # Batches come in many shapes: one graph with free sizes rather than one for each.
            self._hidden = torch.compile(model.hidden, dynamic=True, backend=config.trainer.compile)

    def configure_model(self) -> None:
        """Share the parameters out if the strategy is FSDP; Lightning calls this once processes are connected."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])
            self.average = WeightAverage(self.model, self.config.optimizer.average_decay)
            self._hidden = self.model.hidden

    def on_fit_start(self) -> None:
        """Take the average along: Lightning has moved the model to its device."""
        self.average.follow(self.model)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, and the schedule of ``training.schedule`` at every step."""
        settings = self.config.optimizer
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            # The fused kernel undoes float16's loss scaling itself, too late for clipping; only float16 has any.
            fused=self.config.trainer.precision != "16-mixed",
        )
        shape = ScheduleSettings(
            peak=1.0,
            warmup_steps=settings.warmup_steps,
            cooldown=settings.cooldown,
            total_steps=self.config.trainer.max_steps,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, shape))
        return {"optimizer": optimizer, "lr_scheduler": LRSchedulerConfigType(scheduler=schedule, interval="step")}

    def on_train_start(self) -> None:
        """Let a learning rate that was changed before a resume take effect; the checkpoint brings the old one."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            peak = self.config.optimizer.learning_rate
            schedule.base_lrs = [peak for _ in schedule.base_lrs]
            for group, factor in zip(schedule.optimizer.param_groups, schedule.lr_lambdas, strict=True):
                group["initial_lr"], group["lr"] = peak, peak * factor(schedule.last_epoch)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global gradient norm (Lightning refuses to with a fused optimizer, needed or not)."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Smoothed loss and plain negative log-likelihood, shape (), summed over real target tokens, in nats."""
        return self._losses_of(self._hidden(batch.source, batch.lengths, batch.target_in), batch)

    def _losses_of(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the losses from decoder outputs of shape (row, tgt, dim)."""
        # Padding is dropped before the vocabulary projection, the most expensive product of the step. By indices rather
        # than a mask: a GPU would have to say how many tokens a mask leaves before the next operator can be called.
        logits = self.model.project_vocab(hidden.flatten(0, 1).index_select(0, batch.real))
        gold = batch.target_out.flatten().index_select(0, batch.real)
        loss, likelihood = smoothed_cross_entropy(logits, gold, self.config.optimizer.label_smoothing)
        return loss, likelihood

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the generators from the batch's place in the endless order, and remember where the data stands.

        Checkpoints are only written between steps, so one written later than this counts the batch as trained on. The
        hook at the end of a step would be too late: it runs after the callbacks', which save.
        """
        place = (self.config.seed, *batch.place)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        self.position = batch.after
        if batch_idx % self.config.trainer.accumulate == 0:
            self._step_loss = torch.zeros((), device=self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return this batch's part of the step's smoothed loss, shape (), float32, in nats per token.

        Summed losses are divided by the mean number of tokens of the step's batches, over processes and accumulation;
        as gradients are averaged over both, every token of the step counts the same.
        """
        loss = self._losses(batch)[0] / batch.normaliser
        self._step_loss += loss.detach() / self.config.trainer.accumulate
        return loss

    def checked_loss(self) -> float:
        """Return the last step's smoothed loss over all processes, in nats per token; all must ask at the same time.

        Raises:
            DivergedError: If it is not a finite number.
        """
        loss = float(self.trainer.strategy.reduce(self._step_loss.clone(), reduce_op="mean"))
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.trainer.global_step}; checkpoints are of steps before it: lower "
                "optimizer.learning_rate, raise optimizer.warmup_steps or lower trainer.clip_norm, and start again"
            )
        return loss

    def on_validation_start(self) -> None:
        """Validate the averaged weights."""
        self.average.swap()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the negative log-likelihood per token."""
        loss = self._losses(batch)[1] / batch.normaliser
        self.log("valid/loss", loss, batch_size=len(batch.real), sync_dist=True)

    def translation_scores(self) -> dict[str, float]:
        """Return the scores of translations by name, if the model translates."""
        return {}

    def on_validation_epoch_end(self) -> None:
        """Log scores of translations, and go back to the live weights."""
        translations = self.translation_scores()
        scores = {**translations, "loss": float(self.trainer.callback_metrics["valid/loss"])}
        # What is best, and when to stop, must be the same for all processes, whatever their rounding.
        self.scores = self.trainer.strategy.broadcast(scores)
        self.log_dict({f"valid/{name}": value for name, value in translations.items()}, rank_zero_only=True)
        # Back to the live weights here: callbacks save checkpoints before this module's `on_validation_end`.
        self.average.swap()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that makes the checkpoint stand alone, and what an exact resume needs."""
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": self.config.model_dump_json(),
            "source_tokenizer": pack_bytes(self.corpus.source.model),
            "target_tokenizer": pack_bytes(self.corpus.target.model),
            "average": self.average.state_dict(),
            "position": (self.position.epoch, self.position.batch),
            "scores": dict(self.scores),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the average and the place in the data; Lightning restores the rest."""
        own = checkpoint[KEY]
        self.average.load_state_dict(own["average"])
        self.position = Position(*own["position"])
        self.scores = dict(own["scores"])


class TranslationTask(TrainingTask):
    """Trains one translation model."""

    model: TranslationModel[Any]

    def translation_scores(self) -> dict[str, float]:
        """Return BLEU and chrF of greedy translations of the dev set."""
        ids = greedy_ids(
            self.model,
            self.valid.sources,
            max_length=self.config.validation.max_length,
            reverse=self.config.data.reverse_source,
        )
        result = score(self.corpus.target.decode(ids), self.valid.references)
        return {"bleu": result.bleu, "chrf": result.chrf}
