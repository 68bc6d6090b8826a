"""Which attention head is the word alignment: the one that best finds copied words.

A target token that occurs once in the source (a name, a number, a full stop) has a known alignment; the share of those
a head's most attended position hits is measured on real pairs, and the best head is declared in the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.models.transformer import MultiHeadAttention, Transformer


@torch.no_grad()
def best_alignment_head(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> tuple[int, int, float]:
    """Finds the head that aligns copied tokens best.

    Args:
        model: In eval mode, with one vocabulary for both sides.
        sources: Token ids of sentences, without the end token.
        targets: Their translations, without the end token.

    Returns:
        Decoder layer, head, and the share of copied tokens it aligns right (0 if there are none).
    """
    queries: list[Tensor] = []
    attentions: list[MultiHeadAttention] = [layer.cross_attention for layer in model.decoder_layers]  # type: ignore[misc]
    hooks = [
        attention.query.register_forward_hook(lambda _module, _inputs, output: queries.append(output))
        for attention in attentions
    ]
    layers, heads = len(attentions), model.settings.heads
    hits = torch.zeros(layers, heads)
    total = 0
    vocabulary = model.vocabulary
    try:
        for source, target in zip(sources, targets, strict=True):
            copied = [(t, source.index(token)) for t, token in enumerate(target) if list(source).count(token) == 1]
            if not copied:
                continue
            total += len(copied)
            steps, places = torch.tensor(copied).T
            ids, lengths = torch.tensor([[*source, vocabulary.eos]]), torch.tensor([len(source) + 1])
            queries.clear()
            model.hidden(ids, lengths, torch.tensor([[vocabulary.decoder_start, *target]]))
            states = model.encode_states(ids, lengths)
            for number, attention in enumerate(attentions):
                keys, _ = attention.project_keys_values(states)
                q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries[number], keys))
                aligned = (q @ k.transpose(2, 3))[0].argmax(-1)  # (head, time)
                hits[number] += (aligned[:, steps] == places).sum(-1)
    finally:
        for hook in hooks:
            hook.remove()
    best = int(hits.argmax())
    return best // heads, best % heads, float(hits.max()) / max(total, 1)
