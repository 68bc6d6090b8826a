"""Both families learn: they turn digit strings round, which needs attention, order and an end."""

import random

import pytest
import torch

from training.data.batches import make_batch
from training.decode import greedy_batch
from training.loss import smoothed_cross_entropy
from training.models.build import ModelSettings, build_model
from training.models.contract import TranslationModel, Vocabulary
from training.models.rnn import RnnSettings
from training.models.transformer import TransformerSettings

MODELS: dict[str, ModelSettings] = {
    "transformer": TransformerSettings(
        dim=32, heads=2, feedforward_dim=64, encoder_layers=1, decoder_layers=1, dropout=0.0
    ),
    "rnn": RnnSettings(embedding_dim=32, hidden_dim=32, attention_dim=32, dropout=0.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_learns_to_reverse_digits(name: str) -> None:
    settings = MODELS[name]
    torch.manual_seed(0)
    draw = random.Random(0)
    model = build_model(settings, Vocabulary(14, 14))
    assert isinstance(model, TranslationModel)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def strings(count: int) -> list[list[int]]:
        return [[draw.randrange(4, 14) for _ in range(draw.randint(1, 4))] for _ in range(count)]

    for _ in range(300):
        sources = strings(48)
        batch = make_batch(sources, [s[::-1] for s in sources], model.vocabulary)
        logits = model(batch.source, batch.lengths, batch.target_in)[batch.mask]
        loss, _ = smoothed_cross_entropy(logits, batch.target_out[batch.mask], 0.1)
        optimizer.zero_grad()
        (loss / len(logits)).backward()
        optimizer.step()
    sources = strings(100)
    found = greedy_batch(model.eval(), sources, max_length=8)
    right = sum(a == b[::-1] for a, b in zip(found, sources, strict=True))
    assert right >= 90, f"only {right} of 100 held-out strings are right"
