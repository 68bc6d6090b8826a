"""The end of every decoder graph: from logits to the best continuations, without leaving the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepInputs:
    """What the search and the cache feed a decoder step; the search's shapes as in ``serving.decoding.step.StepPlan``.

    ``places`` (slot, beam, 2) and ``mask`` (slot, 1, beam, entry) are of ``serving.runtime.cache_entries``. ``ranks``
    has shape (candidate,); only its length matters: it is the number of candidates wanted.
    """

    tokens: Tensor
    parents: Tensor
    positions: Tensor
    places: Tensor
    mask: Tensor
    scores: Tensor
    targets: Tensor
    edit_tokens: Tensor
    edit_factors: Tensor
    edit_biases: Tensor
    ranks: Tensor


def best_candidates(
    logits: Tensor, suppressed: Tensor, step: StepInputs, shortlist: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-softmax, edits, and the best continuations of each slot.

    Of the whole vocabulary only the best few of each beam are looked at: as many more than wanted as there are edited
    and suppressed tokens, which are taken out of them; the edited ones join again with their new log-probabilities. So
    nothing is written into the vocabulary, and the second selection sees beam * (a few) numbers only.

    Args:
        logits: Shape (slot, beam, vocab).
        suppressed: Token ids no hypothesis may use. Shape (suppressed,), int64.
        step: Scores, targets and edits.
        shortlist: The tokens that the logits of a slot are of, ascending; None for the whole vocabulary. Tokens that
            it lacks have a log-probability of -inf. Shape (slot, vocab), int64.

    Returns:
        Scores, tokens and parents, each (slot, candidate); unedited log-probabilities of the targets, (slot, beam).
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    target_log_probs = _of(log_probs, step.targets.unsqueeze(-1), shortlist).squeeze(-1)
    edits, wanted = step.edit_tokens, step.ranks.shape[0]
    edited = _of(log_probs, edits, shortlist) * step.edit_factors + step.edit_biases
    enough = wanted + edits.shape[2] + suppressed.shape[0]
    enough = torch.sym_min(enough, logits.shape[2])  # type: ignore[no-untyped-call]
    best, tokens = torch.topk(log_probs, enough, dim=-1)
    if shortlist is not None:
        tokens = shortlist.unsqueeze(1).expand_as(log_probs).gather(-1, tokens)
        # A slot may have fewer tokens than candidates are wanted.
        nothing = torch.zeros_like(step.ranks).expand(*step.tokens.shape, -1)
        best, tokens = torch.cat([best, nothing - torch.inf], dim=-1), torch.cat([tokens, nothing], dim=-1)
    barred = torch.cat([suppressed.expand(*step.tokens.shape, -1), edits], dim=-1)
    best = best.masked_fill(_among(tokens, barred), -torch.inf)
    rank = torch.arange(edits.shape[2])
    again = (edits.unsqueeze(-1) == edits.unsqueeze(-2)) & (rank < rank.unsqueeze(-1))  # named before
    edited = edited.masked_fill(_among(edits, suppressed) | _any(again), -torch.inf)
    scores = torch.cat([best, edited], dim=-1) + step.scores.unsqueeze(-1)
    scores, index = torch.topk(scores.flatten(1), wanted, dim=-1)
    tokens = torch.cat([tokens, edits], dim=-1)
    # Dividing the index by a size would copy the size to the GPU, which no CUDA graph may.
    beams = torch.arange(tokens.shape[1]).unsqueeze(-1).expand_as(tokens)
    tokens, parents = (table.flatten(1).gather(-1, index) for table in (tokens, beams))
    return scores, tokens, parents, target_log_probs


def _of(log_probs: Tensor, tokens: Tensor, shortlist: Tensor | None) -> Tensor:
    """The log-probabilities (slot, beam, token) of ``tokens``, of the same shape."""
    if shortlist is None:
        return log_probs.gather(-1, tokens)
    found = tokens.unsqueeze(-1) == shortlist[:, None, None]
    return log_probs.unsqueeze(-2).masked_fill(~found, -torch.inf).amax(-1)


def _among(tokens: Tensor, barred: Tensor) -> Tensor:
    """Which tokens (..., token) are among ``barred`` (..., barred)."""
    return _any(tokens.unsqueeze(-1) == barred.unsqueeze(-2))


def _any(flags: Tensor) -> Tensor:
    """Whether any of (..., flag) is set; a sum of floats, for which CUDA has a kernel that needs no cuDNN."""
    return flags.float().sum(-1) > 0
