"""Guided alignment (Chen et al. 2016): one head of the decoder learns to attend to what it translates."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.batches import Batch
from training.data.token_store import UNALIGNED
from training.lightning_module import TranslationTask
from training.models.transformer import Transformer


class GuidedAlignmentTask(TranslationTask):
    """Trains a Transformer whose attention to the source also follows the links of an aligned corpus."""

    model: Transformer

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the losses; where the batch has links, the first counts the chosen head's cross-entropy too."""
        settings = self.config.alignment
        if batch.links is None or settings is None:
            return super()._losses(batch)
        weights: list[Tensor] = []
        hidden = self.model.teacher_forced(batch.source, batch.lengths, batch.target_in, weights)
        loss, likelihood = self._losses_of(hidden, batch)
        alignment = alignment_loss(weights[settings.layer][:, settings.head], batch.links)
        return loss + settings.weight * alignment, likelihood


def alignment_loss(attention: Tensor, links: Tensor) -> Tensor:
    """Sum the cross-entropy of a head's attention over the linked target tokens.

    Args:
        attention: Shape (row, tgt, src), each row sums to 1.
        links: Shape (row, tgt), int64, the source position of each target token, ``UNALIGNED`` where there is none.

    Returns:
        Shape (), float32, in nats.
    """
    linked = links != UNALIGNED
    found = attention.float().gather(2, links.masked_fill(~linked, 0).unsqueeze(2)).squeeze(2)
    # The smallest normal number of bfloat16 and float32: attention rounded to 0 gives a finite loss.
    return -torch.where(linked, found.clamp_min(torch.finfo(torch.float32).tiny).log(), 0.0).sum()
