"""Pre-training of an encoder by masked language modelling, and starting a model from the weights of another run."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from training.checkpoint import Checkpoint
from training.config import TrainingConfig
from training.data.batches import Batch
from training.data.corpus import PreparedCorpus
from training.data.tokenizer import TokenizerSettings
from training.errors import CheckpointError, ModelError
from training.lightning_module import TrainingTask, ValidationSet
from training.models.contract import LanguageModel, Vocabulary

_LOG = logging.getLogger(__name__)

CHOSEN = 0.15  # of the tokens are to be predicted; of these
HIDDEN = 0.8  # are replaced by the mask token,
REPLACED = 0.1  # by a random one, and the rest are shown


def mask_tokens(batch: Batch, vocabulary: Vocabulary) -> Batch:
    """Hide some source tokens, which become the targets (Devlin et al. 2019, section 3.1); end tokens stay.

    The decoder's start token, which no source contains, is the mask token. Draws from PyTorch's CPU generator.
    """
    source = batch.source
    draws = torch.rand(2, *source.shape).to(source.device)
    last = batch.lengths[:, None] - 1
    chosen = (torch.arange(source.shape[1], device=source.device) < last) & (draws[0] < CHOSEN)
    random = torch.randint(vocabulary.eos + 1, vocabulary.source_size, source.shape).to(source.device)
    shown = source.masked_fill(chosen & (draws[1] < HIDDEN), vocabulary.decoder_start)
    replaced = chosen & (draws[1] >= HIDDEN) & (draws[1] < HIDDEN + REPLACED)
    real = chosen.flatten().nonzero()[:, 0]
    return batch._replace(source=torch.where(replaced, random, shown), target_out=source, real=real)


class MaskedLanguageTask(TrainingTask):
    """Trains a masked language model on the source side of its corpus."""

    def __init__(
        self, config: TrainingConfig, model: LanguageModel, corpus: PreparedCorpus, valid: ValidationSet
    ) -> None:
        """Take the corpus and the model.

        Raises:
            ModelError: If it is to be judged by translations.
        """
        if config.validation.metric != "loss":
            raise ModelError(
                f"validation.metric is '{config.validation.metric}', but a masked language model does not translate; "
                "set it to 'loss'"
            )
        super().__init__(config, model, corpus, valid)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As for translation, over the chosen tokens, scaled up to all."""
        smoothed, likelihood = super()._losses(mask_tokens(batch, self.model.vocabulary))
        return smoothed / CHOSEN, likelihood / CHOSEN

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the negative log-likelihood of hidden tokens, the same ones each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch_idx)
            super().validation_step(batch, batch_idx)


def inherited_tokenizer(settings: TokenizerSettings, start: Checkpoint, run_dir: Path) -> TokenizerSettings:
    """Take the tokenizer of the run that this one starts from; keeps a copy in the run directory.

    Raises:
        CheckpointError: If that run had one for each language, or the configuration names another one.
    """
    if not start.vocabulary.shared:
        raise CheckpointError("init_from names a run with two tokenizers; only one for both languages can be taken")
    path = run_dir / "inherited.tokenizer"
    partial = path.with_suffix(f".{os.getpid()}")  # each process of a run writes it
    partial.write_bytes(start.source_tokenizer_bytes)
    partial.replace(path)
    if settings.path is not None and settings.path.read_bytes() != start.source_tokenizer_bytes:
        raise CheckpointError(
            f"tokenizer.path is {settings.path}, but init_from was trained with another one; leave one of them out"
        )
    return replace(settings, path=path)


@torch.no_grad()
def start_from(model: nn.Module, start: Checkpoint) -> None:
    """Copy every parameter that has the same name in both models, in place; the others stay as they are.

    Raises:
        CheckpointError: If one has another shape.
    """
    theirs = dict(start.model.named_parameters(remove_duplicate=False))
    shared = [(name, p) for name, p in model.named_parameters(remove_duplicate=False) if name in theirs]
    for name, parameter in shared:
        if parameter.shape != theirs[name].shape:
            raise CheckpointError(
                f"init_from has {name} of shape {tuple(theirs[name].shape)}, but this model's is "
                f"{tuple(parameter.shape)}; give both models the same sizes"
            )
        parameter.copy_(theirs[name])
    _LOG.info("%d parameter tensors start from init_from", len(shared))
