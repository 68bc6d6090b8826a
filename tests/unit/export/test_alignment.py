"""The head that finds copied words is the one that is chosen."""

from __future__ import annotations

from functools import partial

import torch

from export.alignment import best_alignment_head
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings


def test_the_head_that_copies_is_found() -> None:
    torch.manual_seed(0)
    settings = TransformerSettings(dim=32, heads=4, feedforward_dim=32, encoder_layers=1, decoder_layers=2)
    model = Transformer(settings, Vocabulary(source_size=30, target_size=30)).eval()
    copying = best_alignment_head(model, [[5, 6, 7, 8]], [[8, 7, 6, 5]])
    layer, head, accuracy = copying
    assert 0 <= layer < 2
    assert 0 <= head < 4
    # Every head's own accuracy, from attention weights computed here: none is better than the chosen one.
    sources, targets = [[5, 6, 7, 8]], [[8, 7, 6, 5]]
    ids, inputs = torch.tensor([[*sources[0], 3]]), torch.tensor([[2, *targets[0]]])
    lengths = torch.tensor([5])
    states = model.encode_states(ids, lengths)
    found: list[float] = []
    x = model.embed_target(inputs, torch.arange(5)[None])
    for decoder_layer in model.decoder_layers:
        keys, values = decoder_layer.cross_attention.project_keys_values(states)  # type: ignore[union-attr, operator]

        attend_self = partial(decoder_layer.self_attention.attend, is_causal=True)  # type: ignore[union-attr, arg-type]

        def attend_cross(q: torch.Tensor, keys: torch.Tensor = keys, values: torch.Tensor = values) -> torch.Tensor:
            q, keys, values = (x.unflatten(-1, (4, -1)).transpose(1, 2) for x in (q, keys, values))
            weights = (q @ keys.transpose(2, 3) / 8**0.5).softmax(-1)
            places = weights[0].argmax(-1)  # (head, time)
            found.extend(float((row[:4] == torch.tensor([3, 2, 1, 0])).float().mean()) for row in places)
            return (weights @ values).transpose(1, 2).flatten(2)

        x = decoder_layer(x, attend_self, attend_cross)
    assert accuracy == max(found)
    assert found[layer * 4 + head] == accuracy


def test_without_copied_words_the_accuracy_is_zero() -> None:
    settings = TransformerSettings(dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=1)
    model = Transformer(settings, Vocabulary(source_size=30, target_size=30)).eval()
    assert best_alignment_head(model, [[5, 5]], [[5, 9]])[2] == 0.0
