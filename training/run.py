"""Put a training run together: corpus, model, task, Lightning Trainer; start it, or resume it where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import TensorBoardLogger
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.callbacks import AverageWeights, BestAndLast, StepTimer
from training.checkpoint import KEY, AtomicCheckpointIO, load_any, read_checkpoint, unpack_bytes, vocabulary_of
from training.config import TrainingConfig
from training.data.batches import Batch, BatchStream, Resegmentation, Share, make_batch
from training.data.cleaning import clean_text
from training.data.corpora import read_corpora
from training.data.corpus import PreparedCorpus, prepare_corpus
from training.data.parallel_text import Pair
from training.data.sampler import TokenBatchSampler
from training.data.subwords import Subwords
from training.embeddings import initialise_embeddings
from training.errors import CheckpointError, ConfigError, DataError, TrainingError
from training.flops import FlopModel
from training.guided_alignment import GuidedAlignmentTask
from training.lightning_module import TrainingTask, TranslationTask, ValidationSet
from training.models.build import build_model
from training.models.contract import LanguageModel, TranslationModel, Vocabulary
from training.parallel import strategy_of
from training.pretraining import MaskedLanguageTask, inherited_tokenizer, start_from
from training.progress import Progress

_LOG = logging.getLogger(__name__)

VALIDATION_ROWS = 64
ALL_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True)
class FixedBatches:
    """Batches in a list; Lightning would take a bare list for several data sets."""

    batches: list[Batch]

    def __iter__(self) -> Iterator[Batch]:
        """Yield them in order."""
        return iter(self.batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)


class Batches(lightning.LightningDataModule):
    """Gives Lightning the endless training batches from the task's position on, and the validation batches."""

    def __init__(self, config: TrainingConfig, task: TrainingTask) -> None:
        super().__init__()
        self.config, self.task = config, task

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches after the last one that was trained on; Lightning asks once the checkpoint has been restored."""
        config, corpus, trainer = self.config, self.task.corpus, self.trainer
        return BatchStream(
            corpus.store,
            TokenBatchSampler(corpus.store, corpus.copies, config.batch, config.seed),
            self.task.model.vocabulary,
            self.task.position,
            Share(
                rank=trainer.global_rank if trainer else 0,
                processes=trainer.world_size if trainer else 1,
                accumulate=config.trainer.accumulate,
            ),
            reverse=config.data.reverse_source,
            resegmentation=_resegmentation(config, corpus),
        )

    def val_dataloader(self) -> Iterable[Batch]:
        """Return the dev set, the same in every process."""
        return FixedBatches(self.task.valid.batches)


def _resegmentation(config: TrainingConfig, corpus: PreparedCorpus) -> Resegmentation | None:
    alpha, source, target = config.tokenizer.sampling, corpus.source, corpus.target
    if alpha is None or not (isinstance(source, Subwords) and isinstance(target, Subwords)):
        return None
    return Resegmentation(source, target, alpha, config.data.max_tokens, config.seed)


def read_validation(config: TrainingConfig, corpus: PreparedCorpus, vocabulary: Vocabulary) -> ValidationSet:
    """Take pairs evenly spread over the validation set, within the training length limit.

    Raises:
        DataError: If no pair is usable.
    """
    # As they are but for white space: filters and normalisation are for training.
    pairs = [
        Pair(clean_text(pair.source, "none"), clean_text(pair.target, "none"), pair.label)
        for pair in config.data.mixture().seen(read_corpora(config.data.valid))
    ]
    sources = corpus.source.encode([p.source for p in pairs])
    targets = corpus.target.encode([p.target for p in pairs])
    limit = config.data.max_tokens
    usable = [
        i for i in range(len(pairs)) if 0 < min(sizes := (len(sources[i]), len(targets[i]))) <= max(sizes) <= limit
    ]
    if not usable:
        raise DataError(
            f"none of the {len(pairs)} validation pairs of the labels trained on has 1 to {limit} tokens per side; "
            "give another data.valid, or raise data.max_tokens"
        )
    count = min(config.validation.max_pairs, len(usable))
    chosen = [usable[i * len(usable) // count] for i in range(count)]
    chosen.sort(key=lambda i: len(targets[i]))
    batches = []
    for start in range(0, count, VALIDATION_ROWS):
        part = chosen[start : start + VALIDATION_ROWS]
        reverse = config.data.reverse_source
        batches.append(make_batch([sources[i] for i in part], [targets[i] for i in part], vocabulary, reverse=reverse))
    return ValidationSet([sources[i] for i in chosen], [pairs[i].target for i in chosen], batches)


def _check_resumable(path: Path, config: TrainingConfig, corpus: PreparedCorpus) -> None:
    own = read_checkpoint(path)[KEY]
    before = TrainingConfig.model_validate_json(own["config"])
    tokenizers = [unpack_bytes(own[f"{side}_tokenizer"]) for side in ("source", "target")]
    changed = [name for name in ("model", "seed", "batch") if getattr(before, name) != getattr(config, name)]
    changed += ["vocabulary"] if tokenizers != [corpus.source.model, corpus.target.model] else []
    if changed:
        raise CheckpointError(
            f"{path} was trained with another {' and '.join(changed)}; choose another run_dir to start afresh"
        )


@dataclass(frozen=True)
class RunResult:
    """Outcome of a run, as a tuner of hyperparameters wants it.

    Attributes:
        metric: ``validation.metric``.
        best: Best validation score by it, in this run or before it was resumed; None if there was no validation.
        best_step: Optimizer step of that score.
        step: Optimizer steps taken in all.
    """

    metric: str
    best: float | None
    best_step: int
    step: int


def make_trainer(config: TrainingConfig, keeper: BestAndLast, flops: FlopModel | None) -> lightning.Trainer:
    """Configure the Lightning Trainer and its callbacks."""
    settings = config.trainer
    tensorboard: Any = False
    if settings.tensorboard:
        tensorboard = TensorBoardLogger(config.run_dir, name="", version="tensorboard")
    return lightning.Trainer(
        default_root_dir=config.run_dir,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy_of(settings),
        precision=settings.precision,
        max_steps=settings.max_steps,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_norm,
        val_check_interval=config.validation.every_steps * settings.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every_steps,
        enable_progress_bar=settings.progress_bar,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=tensorboard,
        plugins=[AtomicCheckpointIO()],
        callbacks=[
            AverageWeights(),
            Progress(config.run_dir, settings.log_every_steps, flops),
            keeper,
            *([StepTimer(settings.max_time)] if settings.max_time is not None else []),
        ],
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what Lightning and PyTorch say of a configuration or a GPU that cannot work into one sentence."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"Lightning refuses trainer's settings: {' '.join(str(error).split())}") from error
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the memory of the GPU is full; lower batch.tokens and raise trainer.accumulate, or set trainer.recompute"
        ) from error


def prepare(config: TrainingConfig) -> tuple[PreparedCorpus, LanguageModel]:
    """Prepare the corpus and build the model: fresh, or starting from weights or vectors trained elsewhere.

    Raises:
        TrainingError: If the data cannot be used, or what the model shall start from does not fit it.
    """
    wanted = config.corpus()
    start = load_any(config.init_from) if config.init_from is not None else None
    if start is not None:
        wanted = replace(wanted, tokenizer=inherited_tokenizer(wanted.tokenizer, start, config.run_dir))
    corpus = prepare_corpus(wanted, config.cache_dir or config.run_dir / "cache")
    torch.manual_seed(config.seed)
    model = build_model(config.model, vocabulary_of(corpus.source, corpus.target))
    if start is not None:
        start_from(model, start)
    if config.embeddings.source or config.embeddings.target:
        tokenizers = {"source": corpus.source, "target": corpus.target}
        counts = {side: corpus.store.counts(side, tokenizer.size) for side, tokenizer in tokenizers.items()}
        initialise_embeddings(model, tokenizers, counts, config.embeddings)
    return corpus, model


def _task_kind(config: TrainingConfig, model: LanguageModel) -> type[TrainingTask]:
    if not isinstance(model, TranslationModel):
        return MaskedLanguageTask
    return TranslationTask if config.alignment is None else GuidedAlignmentTask


def run(config: TrainingConfig) -> RunResult:
    """Train, from scratch or from ``last.ckpt`` of the run directory; also writes what it returns to ``result.json``.

    Raises:
        TrainingError: If the data or a checkpoint cannot be used, or training diverges.
    """
    config.run_dir.mkdir(parents=True, exist_ok=True)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    corpus, model = prepare(config)
    flops = FlopModel(model) if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else None
    task = _task_kind(config, model)(config, model, corpus, read_validation(config, corpus, model.vocabulary))
    _LOG.info("%d training pairs, %d parameters", len(corpus.store), sum(p.numel() for p in model.parameters()))
    last = config.run_dir / "last.ckpt"
    if last.is_file():
        _check_resumable(last, config, corpus)
        _LOG.info("resuming from %s", last)
    settings = config.validation
    keeper = BestAndLast(
        config.run_dir,
        config.trainer.checkpoint_every_steps,
        settings.metric,
        keep=config.trainer.keep_checkpoints,
        patience=settings.patience,
    )
    with _plain_errors():
        trainer = make_trainer(config, keeper, flops)
        # The CPU's flash kernel is several times slower than plain products at sentence length.
        kernels = [SDPBackend.MATH] if trainer.strategy.root_device.type == "cpu" else ALL_KERNELS
        with sdpa_kernel(kernels):
            checkpoint = last if last.is_file() else None
            trainer.fit(task, datamodule=Batches(config, task), ckpt_path=checkpoint, weights_only=True)
    result = RunResult(settings.metric, keeper.best, keeper.best_step, trainer.global_step)
    if trainer.is_global_zero:
        (config.run_dir / "result.json").write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    return result
