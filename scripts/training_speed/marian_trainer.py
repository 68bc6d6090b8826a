"""Hugging Face's Seq2SeqTrainer with MarianMT of the same shape, over the same batches."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from loadtests.offline.huggingface_engine import configuration
from scripts.training_speed.batches import Workload, moment
from training.config import TrainingConfig
from training.data.batches import Batch
from training.models.transformer import TransformerSettings

_IGNORED = -100  # label of padding


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Callback that keeps the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(moment())


def build(settings: TransformerSettings, workload: Workload) -> MarianMTModel:
    """Return a MarianMT model of these sizes, with fresh weights."""
    dropout = {
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation_dropout": settings.feedforward_dropout,
    }
    tied = {"share_encoder_decoder_embeddings": True, "tie_word_embeddings": True}
    size = max(workload.corpus.source.size, workload.corpus.target.size)
    shape = configuration(asdict(settings), pad=0, bos=2, eos=3, decoder_start=2)
    return MarianMTModel(MarianConfig(vocab_size=size, **shape, **dropout, **tied))


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch.source,
        "attention_mask": (torch.arange(batch.source.shape[1]) < batch.lengths[:, None]).long(),
        "decoder_input_ids": batch.target_in,
        "labels": batch.target_out.masked_fill(~batch.mask, _IGNORED),
    }


def step_times(config: TrainingConfig, workload: Workload, directory: Path) -> list[float]:
    """Train on each batch once; return the time after each step, seconds of ``time.perf_counter``."""
    if not isinstance(config.model, TransformerSettings):
        raise TypeError("MarianMT is a Transformer; give a configuration of one")
    torch.manual_seed(config.seed)
    clock, optimizer = _Clock(), config.optimizer
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(directory),
        max_steps=len(workload.batches),
        per_device_train_batch_size=1,  # an item is a whole batch
        train_sampling_strategy="sequential",
        learning_rate=optimizer.learning_rate,
        lr_scheduler_type="inverse_sqrt",
        warmup_steps=optimizer.warmup_steps,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.epsilon,
        optim="adamw_torch_fused",
        label_smoothing_factor=optimizer.label_smoothing,
        max_grad_norm=config.trainer.clip_norm or 0.0,
        bf16=config.trainer.precision == "bf16-mixed",
        use_cpu=not torch.cuda.is_available() or config.trainer.accelerator == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    Seq2SeqTrainer(
        model=build(config.model, workload),
        args=arguments,
        train_dataset=[_inputs(batch) for batch in workload.batches],
        data_collator=lambda items: items[0],
        callbacks=[clock],
    ).train()
    return clock.times
