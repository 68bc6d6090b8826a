"""What every family promises: stepping equals teacher forcing, and padding and neighbours change nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from training.data.batches import make_batch
from training.errors import ModelError
from training.models.build import ModelSettings, build_model
from training.models.contract import TranslationModel, Vocabulary
from training.models.decoder_only import DecoderOnly, DecoderOnlySettings
from training.models.rnn import RnnSettings
from training.models.transformer import Transformer, TransformerSettings

SMALL = TransformerSettings(dim=16, heads=4, feedforward_dim=24, encoder_layers=2, decoder_layers=2, max_positions=40)
RNN = RnnSettings(embedding_dim=8, hidden_dim=12, attention_dim=10)

MODELS: dict[str, ModelSettings] = {
    "pre-norm": SMALL,
    "marian-like": replace(SMALL, norm="post", activation="silu", output_bias=True),
    "bart-like": replace(
        SMALL,
        norm="post",
        activation="gelu",
        positions="learned",
        position_offset=2,
        embedding_norm=True,
        scale_embedding=False,
        output_bias=True,
    ),
    "no-bias-untied": replace(SMALL, bias=False, tie="none", encoder_layers=3, decoder_layers=1),
    "modern": replace(
        SMALL, normalization="rms", activation="swiglu", positions="rotary", bias=False, decoder_kv_heads=2
    ),
    "ssru": replace(SMALL, norm="post", norm_epsilon=1e-6, decoder_autoregression="ssru"),
    "decoder-only": DecoderOnlySettings(dim=16, heads=4, feedforward_dim=24, layers=2, max_positions=40, tie="target"),
    "decoder-only-causal": DecoderOnlySettings(
        dim=16, heads=4, feedforward_dim=24, layers=2, norm="post", prefix="causal", positions="rotary", kv_heads=1
    ),
    "lstm-bahdanau": RNN,
    "gru-bahdanau-local": replace(RNN, cell="gru", span="local_p", window=1, decoder_layers=2),
    "gru-general": replace(RNN, cell="gru", attention="luong_general", encoder_layers=2, decoder_layers=2),
    "lstm-general-unfed": replace(RNN, attention="luong_general", input_feeding=False),
    "lstm-dot": replace(RNN, attention="luong_dot", bidirectional=False, decoder_layers=2, tie="target"),
    "rnn-dot": replace(RNN, cell="rnn", attention="luong_dot", bidirectional=False, bridge="copy", tie="none"),
    "lstm-concat-local": replace(RNN, attention="luong_concat", span="local_p", window=2),
    "lstm-no-context": replace(RNN, attention="none", input_feeding=False, bidirectional=False, bridge="copy"),
    "gru-fixed-context": replace(RNN, cell="gru", attention="context", bidirectional=False),
}
SOURCES = [[5, 9, 7, 4, 11], [6], [8, 8, 12]]
TARGETS = [[7, 5, 20], [9, 10, 11, 12, 13, 6], []]


def make(name: str, vocabulary: Vocabulary) -> TranslationModel[Any]:
    torch.manual_seed(3)
    model = build_model(MODELS[name], vocabulary).eval()
    assert isinstance(model, TranslationModel)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_stepping_equals_teacher_forcing(name: str, vocabulary: Vocabulary) -> None:
    model = make(name, vocabulary)
    batch = make_batch(SOURCES, TARGETS, vocabulary)
    with torch.no_grad():
        forced = model(batch.source, batch.lengths, batch.target_in)
        state = model.encode(batch.source, batch.lengths)
        for time in range(batch.target_in.shape[1]):
            logits, state = model.decode_step(batch.target_in[:, time], state)
            torch.testing.assert_close(logits, forced[:, time], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_row_depends_on_neither_padding_nor_neighbours(name: str, vocabulary: Vocabulary) -> None:
    model = make(name, vocabulary)
    together = make_batch(SOURCES, TARGETS, vocabulary)
    with torch.no_grad():
        logits = model(together.source, together.lengths, together.target_in)
        for row in range(3):
            alone = make_batch([SOURCES[row]], [TARGETS[row]], vocabulary)
            expected = model(alone.source, alone.lengths, alone.target_in)[0]
            torch.testing.assert_close(logits[row, : len(expected)], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_selecting_rows_forks_and_reorders_hypotheses(name: str, vocabulary: Vocabulary) -> None:
    model = make(name, vocabulary)
    batch = make_batch(SOURCES, [[7], [9], [10]], vocabulary)
    with torch.no_grad():
        _, state = model.decode_step(batch.target_in[:, 0], model.encode(batch.source, batch.lengths))
        straight, _ = model.decode_step(torch.tensor([7, 9, 10]), state)
        rows = torch.tensor([2, 0, 0])
        selected, _ = model.decode_step(torch.tensor([10, 7, 7]), state.select(rows))
    torch.testing.assert_close(selected, straight[rows], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_over_real_source_tokens(name: str, vocabulary: Vocabulary) -> None:
    model = make(name, vocabulary)
    batch = make_batch(SOURCES, TARGETS, vocabulary)
    with torch.no_grad():
        weights = model.attention(batch.source, batch.lengths, batch.target_in)
    rows, time = batch.target_in.shape
    assert (weights.shape[1], *weights.shape[3:]) == (rows, time, batch.source.shape[1])
    assert (weights.shape[0] == 0) == name.endswith("context")
    for row, length in enumerate(batch.lengths):
        assert not weights[:, row, ..., length:].any()
        assert (weights[:, row].sum(-1) <= 1 + 1e-5).all()
        # Local attention gives less than 1 in all, and a decoder-only model gives the rest to its own tokens.
        assert "local" in name or "only" in name or (weights[:, row].sum(-1) >= 1 - 1e-5).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str, vocabulary: Vocabulary) -> None:
    model = make(name, vocabulary)
    batch = make_batch(SOURCES, TARGETS, vocabulary)
    logits = model(batch.source, batch.lengths, batch.target_in)[batch.mask]
    torch.nn.functional.cross_entropy(logits, batch.target_out[batch.mask]).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("prefix", "sees"), [("bidirectional", True), ("causal", False)])
def test_a_causal_prefix_does_not_see_ahead(prefix: str, sees: bool, vocabulary: Vocabulary) -> None:
    torch.manual_seed(3)
    settings = DecoderOnlySettings(dim=16, heads=2, feedforward_dim=24, layers=2, prefix=prefix)  # type: ignore[arg-type]
    model = DecoderOnly(settings, vocabulary).eval()
    memories = [model.encode(torch.tensor([[5, 9, last, 3]]), torch.tensor([4])).source[1][0] for last in (7, 8)]
    seen = not torch.equal(memories[0][:, :2], memories[1][:, :2])
    assert seen == sees
    assert not torch.equal(memories[0][:, 2:], memories[1][:, 2:])


def test_lengths_are_checked_before_training() -> None:
    SMALL.check_lengths(39, 39)
    with pytest.raises(ModelError, match=r"max_positions is 40, but sources of 40 tokens and targets of 39 need 41"):
        SMALL.check_lengths(40, 39)
    both = DecoderOnlySettings(max_positions=40)
    both.check_lengths(18, 20)
    with pytest.raises(ModelError, match="need 41"):
        both.check_lengths(19, 20)
    RNN.check_lengths(10_000, 10_000)


def test_marian_and_bart_sizes_have_a_counterpart(vocabulary: Vocabulary) -> None:
    bart = make("bart-like", vocabulary)
    assert isinstance(bart, Transformer)
    names = dict(bart.named_parameters())
    assert names["source_positions.weight"].shape == (42, 16)
    assert {"source_embedding_norm.weight", "vocab_projection.bias"} <= names.keys()
    assert isinstance(bart.decoder_norm, torch.nn.Identity)
    marian = make("marian-like", vocabulary)
    assert "source_positions.weight" not in dict(marian.named_parameters())


def test_contradictions_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ModelError, match="3 heads do not divide"):
        TransformerSettings(dim=16, heads=3)
    with pytest.raises(ModelError, match="decoder_kv_heads is 3, which does not divide the 4 heads"):
        TransformerSettings(dim=16, heads=4, decoder_kv_heads=3)
    with pytest.raises(ModelError, match="3 dimensions, but rotary"):
        TransformerSettings(dim=12, heads=4, positions="rotary")
    split = replace(vocabulary, source_size=30, shared=False)
    with pytest.raises(ModelError, match="vocabularies differ"):
        build_model(SMALL, split)
    assert build_model(replace(SMALL, tie="target"), split).vocabulary == split
