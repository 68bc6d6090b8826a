"""Label-smoothed cross-entropy (Szegedy et al. 2016, section 7), computed in one pass over the logits.

With a large vocabulary the logits are by far the largest tensor of a step. The stock operators copy them to float32
and walk over them many times; here a chunk at a time is read once and overwritten by its own gradient: one that fits a
CPU's cache, or on a GPU one that is large enough to be worth calling a dozen kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        tokens, vocab = logits.shape
        rows = max(1, CHUNK_ELEMENTS.get(logits.device.type, 1 << 26) // vocab)
        wants_gradient = ctx.needs_input_grad[0]
        losses = logits.new_empty(tokens, dtype=torch.float32)
        likelihoods = torch.empty_like(losses)
        for start in range(0, tokens, rows):
            part = slice(start, start + rows)
            scores, gold = logits[part].float(), targets[part, None]
            normaliser = scores.logsumexp(dim=1)
            gold_scores = scores.gather(1, gold)[:, 0]
            likelihoods[part] = normaliser - gold_scores
            losses[part] = normaliser - (1.0 - smoothing) * gold_scores - smoothing * scores.mean(dim=1)
            if wants_gradient:
                gradient = (scores - normaliser[:, None]).exp_().sub_(smoothing / vocab)
                gradient.scatter_add_(1, gold, gradient.new_full((gold.shape[0], 1), smoothing - 1.0))
                # The linear layer's backward does not need its output, so its memory can hold the gradient.
                logits[part] = gradient
        ctx.gradient = logits if wants_gradient else None
        return losses.sum(), likelihoods.sum()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient.mul_(upstream[0]), None, None


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Sum the loss over tokens: lse(x) - (1 - s) x[gold] - s mean(x) for every row x.

    Args:
        logits: Shape (token, vocab), any float dtype. Overwritten when gradients are recorded.
        targets: Shape (token,), int64; no padding among them.
        smoothing: Probability mass s spread evenly over the vocabulary.

    Returns:
        The smoothed loss, differentiable once, and the plain negative log-likelihood, which is not differentiable;
        both float32 scalars, summed over tokens, in nats.
    """
    loss, likelihood = _SmoothedCrossEntropy.apply(logits, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss, likelihood.detach()
