"""Greedy decoding in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training.data.batches import make_source
from training.models.contract import TranslationModel


@torch.inference_mode()
def greedy_batch(
    model: TranslationModel[Any], sources: Sequence[Sequence[int]], *, max_length: int, reverse: bool = False
) -> list[list[int]]:
    """Translate many sentences at once, greedily: for scoring a dev set during training.

    Args:
        model: In eval mode.
        sources: Piece ids of each sentence, without eos.
        max_length: Most tokens of a translation.
        reverse: Turn sources round, for a model trained so.

    Returns:
        Piece ids of each translation, without eos.
    """
    vocabulary = model.vocabulary
    device = next(model.parameters()).device
    source, lengths = make_source(sources, vocabulary, reverse=reverse)
    state = model.encode(source.to(device), lengths.to(device))
    tokens = torch.full((len(sources),), vocabulary.decoder_start, device=device)
    done = torch.zeros(len(sources), dtype=torch.bool, device=device)
    suppressed = torch.tensor(vocabulary.suppressed, device=device)
    steps = []
    for _ in range(max_length):
        logits, state = model.decode_step(tokens, state)
        logits[:, suppressed] = -torch.inf
        tokens = logits.argmax(dim=1)
        done |= tokens == vocabulary.eos
        if bool(done.all()):
            break
        steps.append(tokens.masked_fill(done, vocabulary.eos))
    rows = torch.stack(steps, dim=1).tolist() if steps else [[] for _ in sources]
    return [row[: row.index(vocabulary.eos)] if vocabulary.eos in row else row for row in rows]
