"""The end of every decoder graph: from logits to the best continuations, without leaving the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepInputs:
    """What the search feeds a decoder step; shapes as in ``serving.decoding.step.StepPlan``.

    ``ranks`` has shape (candidate,); only its length matters: it is the number of candidates wanted.
    """

    tokens: Tensor
    parents: Tensor
    positions: Tensor
    ancestors: Tensor
    scores: Tensor
    targets: Tensor
    edit_tokens: Tensor
    edit_factors: Tensor
    edit_biases: Tensor
    ranks: Tensor


def best_candidates(logits: Tensor, suppressed: Tensor, step: StepInputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-softmax, edits, and the best continuations of each slot.

    The best K of a slot are among the best K of each of its beams, so the second selection sees beam * K numbers only.

    Args:
        logits: Shape (slot, beam, vocab).
        suppressed: Token ids no hypothesis may use. Shape (suppressed,), int64.
        step: Scores, targets and edits.

    Returns:
        Scores, tokens and parents, each (slot, candidate); unedited log-probabilities of the targets, (slot, beam).
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    target_log_probs = log_probs.gather(-1, step.targets.unsqueeze(-1)).squeeze(-1)
    edited = log_probs.gather(-1, step.edit_tokens) * step.edit_factors + step.edit_biases
    never = suppressed.expand(*step.tokens.shape, -1)
    never_log_probs = torch.full_like(never, -torch.inf, dtype=torch.float32)
    # One scatter, in place in ONNX Runtime, touches these tokens only; a mask would read the whole vocabulary again.
    log_probs = log_probs.scatter(
        -1, torch.cat([step.edit_tokens, never], dim=-1), torch.cat([edited, never_log_probs], dim=-1)
    )
    wanted = step.ranks.shape[0]
    best, tokens = torch.topk(log_probs, wanted, dim=-1)  # (slot, beam, candidate)
    scores, index = torch.topk((best + step.scores.unsqueeze(-1)).flatten(1), wanted, dim=-1)
    return scores, tokens.flatten(1).gather(-1, index), index // wanted, target_log_probs
