"""Hugging Face's Seq2SeqTrainer with MarianMT of the same shape, over the same batches."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from loadtests.training.batches import Workload
from training.config import TrainingConfig
from training.models.transformer import TransformerSettings

IGNORED = -100  # label of padding


class _Batches(Dataset[dict[str, torch.Tensor]]):
    """Each item is a whole batch."""

    def __init__(self, workload: Workload) -> None:
        self._items = [
            {
                "input_ids": batch.source,
                "attention_mask": (torch.arange(batch.source.shape[1]) < batch.lengths[:, None]).long(),
                "decoder_input_ids": batch.target_in,
                "labels": batch.target_out.masked_fill(~batch.mask, IGNORED),
            }
            for batch in workload.batches
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._items[index]


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Notes the time after every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait for the device, then look at the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


class _InOrder(Seq2SeqTrainer):  # type: ignore[misc]
    """Takes the batches in the order they have."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return None


def build(settings: TransformerSettings, workload: Workload) -> MarianMTModel:
    """A MarianMT model of these sizes, with fresh weights."""
    size = max(workload.corpus.source.size, workload.corpus.target.size)
    return MarianMTModel(
        MarianConfig(
            vocab_size=size,
            d_model=settings.dim,
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_attention_heads=settings.heads,
            decoder_attention_heads=settings.heads,
            encoder_ffn_dim=settings.feedforward_dim,
            decoder_ffn_dim=settings.feedforward_dim,
            activation_function=settings.activation,
            dropout=settings.dropout,
            attention_dropout=settings.attention_dropout,
            activation_dropout=settings.feedforward_dropout,
            scale_embedding=settings.scale_embedding,
            max_position_embeddings=settings.max_positions,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            decoder_start_token_id=2,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
        )
    )


def step_times(config: TrainingConfig, workload: Workload, directory: Path) -> list[float]:
    """Train on each batch once; returns the time after each step, seconds of `time.perf_counter`."""
    if not isinstance(config.model, TransformerSettings):
        raise TypeError("MarianMT is a Transformer; give a configuration of one")
    torch.manual_seed(config.seed)
    clock, optimizer = _Clock(), config.optimizer
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(directory),
        max_steps=len(workload.batches),
        per_device_train_batch_size=1,
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
    trainer = _InOrder(
        model=build(config.model, workload),
        args=arguments,
        train_dataset=_Batches(workload),
        data_collator=lambda items: items[0],
        callbacks=[clock],
    )
    trainer.train()
    return clock.times
