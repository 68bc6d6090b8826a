"""The head that finds copied words is the one that is chosen."""

from __future__ import annotations

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
    # Every head's own accuracy: none is better than the chosen one's.
    ids, inputs = torch.tensor([[5, 6, 7, 8, 3]]), torch.tensor([[2, 8, 7, 6, 5]])
    places = model.attention(ids, torch.tensor([5]), inputs)[:, 0].argmax(-1)  # (layer, head, time)
    found = [float((row[:4] == torch.tensor([3, 2, 1, 0])).float().mean()) for row in places.flatten(0, 1)]
    assert accuracy == max(found)
    assert found[layer * 4 + head] == accuracy


def test_without_copied_words_the_accuracy_is_zero() -> None:
    settings = TransformerSettings(dim=16, heads=2, feedforward_dim=16, encoder_layers=1, decoder_layers=1)
    model = Transformer(settings, Vocabulary(source_size=30, target_size=30)).eval()
    # Twice on either side: which one it translates is not known.
    assert best_alignment_head(model, [[5, 5], [5, 6]], [[5, 9], [6, 6]])[2] == 0.0
