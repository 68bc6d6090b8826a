"""The end of every decoder graph: from logits to the best continuations, without leaving the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.modules.contract import Attended, FamilyDecoder, StepInputs
from serving.bundle.manifest import StateSpec, TensorSpec


@dataclass(frozen=True)
class Listed:
    """Tokens that the logits of a slot are of, where they are not of the whole vocabulary.

    ``tokens`` (slot, shortlist), int64, are ascending; ``index`` (slot, vocab), int32, says where among them a
    token is, -1 for those that are not.
    """

    tokens: Tensor
    index: Tensor


class CandidateDecoder(nn.Module):
    """A family's decoder with the selection of candidates behind it."""

    def __init__(self, decoder: FamilyDecoder, suppressed: Sequence[int], *, renormalize: bool = False) -> None:
        """Select among the decoder's tokens.

        Args:
            decoder: Of a family.
            suppressed: Token ids no hypothesis may use.
            renormalize: Tokens that are ruled out leave the others more likely.
        """
        super().__init__()
        self.decoder, self.renormalize = decoder, renormalize
        self.columns: tuple[TensorSpec, ...] = ()  # what a step reads of an output layer that is not constant
        self.suppressed: Tensor
        self.register_buffer("suppressed", torch.tensor(suppressed), persistent=False)

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """The decoder's memory: tensors that a step reads of each source."""
        return self.decoder.memory

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """Tensors that a step reads and writes."""
        return self.decoder.state

    @property
    def has_attention(self) -> bool:
        """Whether a step tells weights of attention."""
        return self.decoder.has_attention

    def score(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Listed | None, Attended, list[Tensor]]:
        """Run the family's step, shapes as there; return its results, with the tokens that the logits are of."""
        logits, attended, present = self.decoder(step, lengths, memory, past)
        return logits, None, attended, present

    def forward(
        self, step: list[Tensor], lengths: list[Tensor], memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Run one step.

        Args:
            step: The fields of ``StepInputs``, in their order.
            lengths: Of the sources, shape (slot,), int64, alone in a list.
            memory: As ``memory`` says, shape (slot, ...) each; then as ``columns`` says, shape (..., column) each.
            past: As ``state`` says, shape (slot, ...) each.

        Returns:
            Candidates, the targets' log-probabilities, alignment, attention where there is one, and the next state, as
            the manifest declares them.
        """
        inputs = StepInputs(*step)
        logits, listed, attended, present = self.score(inputs, lengths[0], memory, past)
        if self.renormalize:
            logits = without_banned(logits, self.suppressed, inputs, listed)
        weights = () if attended.weights is None else (attended.weights,)
        return *best_candidates(logits, self.suppressed, inputs, listed), attended.most, *weights, *present


def best_candidates(
    logits: Tensor, suppressed: Tensor, step: StepInputs, listed: Listed | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute log-softmax, edits, and the best continuations of each slot.

    Of the whole vocabulary only the best few of each beam are looked at: as many more than wanted as there are edited
    and suppressed tokens, which are taken out of them; the edited ones join again with their new log-probabilities. So
    nothing is written into the vocabulary, and the second selection sees beam * (a few) numbers only.

    Args:
        logits: Shape (slot, beam, vocab), or (slot, beam, shortlist).
        suppressed: Token ids no hypothesis may use. Shape (suppressed,), int64.
        step: Scores, targets and edits.
        listed: The tokens of a shortlist; all others have a log-probability of -inf.

    Returns:
        Scores, tokens and parents, each (slot, candidate); unedited log-probabilities of the targets, (slot, beam).
    """
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    target_log_probs = _of(log_probs, step.targets.unsqueeze(-1), listed).squeeze(-1)
    edits, wanted = step.edit_tokens, step.ranks.shape[0]
    edited = _of(log_probs, edits, listed) * step.edit_factors + step.edit_biases
    enough = wanted + edits.shape[2] + suppressed.shape[0]
    enough = torch.sym_min(enough, logits.shape[2])  # type: ignore[no-untyped-call]
    best, tokens = torch.topk(log_probs, enough, dim=-1)
    if listed is not None:
        tokens = listed.tokens.gather(1, tokens.flatten(1)).reshape(tokens.shape)
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


def without_banned(logits: Tensor, suppressed: Tensor, step: StepInputs, listed: Listed | None) -> Tensor:
    """Give tokens that suppression or edits rule out no probability at all.

    Arguments are those of ``best_candidates``, and the logits it returns have the same shape.
    """
    tokens = torch.cat([suppressed.expand(*step.tokens.shape, -1), step.edit_tokens], dim=-1)
    allowed = torch.cat(
        [torch.zeros_like(suppressed).bool().expand(*step.tokens.shape, -1), step.edit_biases > -torch.inf], -1
    )
    if listed is not None:
        index = listed.index.gather(1, tokens.flatten(1)).reshape(tokens.shape)
        tokens, allowed = index.clamp(min=0).long(), allowed | (index < 0)
    # The smaller of logit and bound: a token that is named twice, once as absent, needs no order.
    bounds = torch.full(tokens.shape, -torch.inf).masked_fill(allowed, torch.inf)
    return logits.float().scatter_reduce(-1, tokens, bounds, "amin")


def _of(log_probs: Tensor, tokens: Tensor, listed: Listed | None) -> Tensor:
    """Look up the log-probabilities (slot, beam, token) of ``tokens``, of the same shape."""
    if listed is None:
        return log_probs.gather(-1, tokens)
    index = listed.index.gather(1, tokens.flatten(1)).reshape(tokens.shape)
    # Added, so that a NaN shows even in a token that is not on the list.
    absent = torch.zeros_like(log_probs[..., :1]).masked_fill(index < 0, -torch.inf)
    return log_probs.gather(-1, index.clamp(min=0).long()) + absent


def _among(tokens: Tensor, barred: Tensor) -> Tensor:
    """Mark the tokens (..., token) that are among ``barred`` (..., barred)."""
    return _any(tokens.unsqueeze(-1) == barred.unsqueeze(-2))


def _any(flags: Tensor) -> Tensor:
    """Tell whether any of (..., flag) is set; a sum of floats, for which CUDA has a kernel that needs no cuDNN."""
    return flags.float().sum(-1) > 0
