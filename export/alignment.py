"""Choice of the attention head that is the word alignment: the one that best finds copied words.

A token that occurs once in the source and once in the target (a piece of a name, a number, a full stop) has a known
alignment; the share of those a head's most attended position hits is measured on real pairs, and the best head is
declared in the bundle. A token that the target has twice is left out: one of the two translates something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from training.models.contract import TranslationModel


@torch.no_grad()
def best_alignment_head(
    model: TranslationModel[Any], sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> tuple[int, int, float]:
    """Find the head that aligns copied tokens best.

    Args:
        model: In eval mode, with attention and with one vocabulary for both sides.
        sources: Token ids of sentences, without the end token.
        targets: Their translations, without the end token.

    Returns:
        Decoder layer, head, and the share of copied tokens it aligns right (0 if there are none).
    """
    hits, total = torch.zeros(1, 1), 0
    vocabulary = model.vocabulary
    for source, target in zip(sources, targets, strict=True):
        occurrences = Counter(source), Counter(target)
        copied = [
            (t, source.index(token)) for t, token in enumerate(target) if all(side[token] == 1 for side in occurrences)
        ]
        if not copied:
            continue
        total += len(copied)
        steps, places = torch.tensor(copied).T
        ids, lengths = torch.tensor([[*source, vocabulary.eos]]), torch.tensor([len(source) + 1])
        weights = model.attention(ids, lengths, torch.tensor([[vocabulary.decoder_start, *target]]))
        aligned = weights[:, 0].argmax(-1)  # (layer, head, time)
        hits = hits + (aligned[:, :, steps] == places).sum(-1)
    best = int(hits.argmax())
    return best // hits.shape[1], best % hits.shape[1], float(hits.max()) / max(total, 1)
