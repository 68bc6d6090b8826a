"""Recurrent models against PyTorch's own layers and the papers' equations, one row at a time."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.data.batches import make_batch
from training.errors import ModelError
from training.models.contract import Vocabulary
from training.models.recurrent import CELLS, CellKind, CellStack, RecurrentEncoder
from training.models.rnn import Rnn, RnnSettings

SMALL = RnnSettings(embedding_dim=8, hidden_dim=12, attention_dim=10)
SOURCE, TARGET = [5, 9, 7, 4], [7, 5, 20]


def make(settings: RnnSettings, vocabulary: Vocabulary) -> Rnn:
    torch.manual_seed(3)
    model = Rnn(settings, vocabulary).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("kind", CELLS)
def test_stack_of_cells_is_pytorchs_layers_step_by_step(kind: CellKind) -> None:
    torch.manual_seed(1)
    layers = CELLS[kind].layers(input_size=5, hidden_size=6, num_layers=2, batch_first=True)  # type: ignore[call-arg]
    stack = CellStack(kind, 5, 6, 2, dropout=0.5).eval()
    for layer, cell in enumerate(stack.cells):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            cell.get_parameter(name).data = layers.get_parameter(f"{name}_l{layer}").data
    x = torch.randn(3, 4, 5)
    expected, final = layers(x)
    state = tuple(torch.zeros(3, 6) for _ in stack.state)
    for time in range(4):
        state = stack(x[:, time], state)
        torch.testing.assert_close(stack.top(state), expected[:, time])
    parts = final if isinstance(final, tuple) else (final,)
    torch.testing.assert_close(state, tuple(part[layer] for layer in range(2) for part in parts))


@pytest.mark.parametrize("kind", CELLS)
def test_encoder_says_of_each_row_what_pytorch_says_of_it_alone(kind: CellKind) -> None:
    torch.manual_seed(1)
    encoder = RecurrentEncoder(kind, 5, 6, 2, bidirectional=True, dropout=0.0)
    x, lengths = torch.randn(3, 7, 5), [7, 2, 4]
    found, finals = encoder(x, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        states, final = encoder.rnn(x[row : row + 1, :length])
        torch.testing.assert_close(found.states[row, :length], states[0])
        assert not found.states[row, length:].any()
        parts = final if isinstance(final, tuple) else (final,)
        for layer in range(2):
            alone = [torch.cat([part[2 * layer, 0], part[2 * layer + 1, 0]]) for part in parts]
            torch.testing.assert_close([part[row] for part in finals[layer]], alone)
        torch.testing.assert_close(found.final[row], finals[1][0][row])


def outputs(model: Rnn) -> Tensor:
    """Teacher-forced outputs of one sentence, shape (time, hidden)."""
    batch = make_batch([SOURCE], [TARGET], model.vocabulary)
    return model.hidden(batch.source, batch.lengths, batch.target_in)[0]


def inputs(model: Rnn) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder states (src, dim), the encoder's final state (dim,), and embedded decoder inputs (time, dim)."""
    batch = make_batch([SOURCE], [TARGET], model.vocabulary)
    states, final = model.encoder.rnn(model.source_embedding(batch.source))
    last = torch.cat(tuple(final[-model.encoder.directions :, 0]), dim=-1)
    return states[0], last, model.target_embedding(batch.target_in)[0]


@torch.no_grad()
def test_bahdanaus_step(vocabulary: Vocabulary) -> None:
    """e_ij = a(s_{i-1}, h_j); s_i = f(s_{i-1}, y_{i-1}, c_i): the last state asks, the context enters the cell."""
    model = make(replace(SMALL, cell="gru", attention="bahdanau"), vocabulary)
    states, final, embedded = inputs(model)
    weight = dict(model.named_parameters())
    s = torch.tanh(weight["bridge.layers.0.weight"] @ final + weight["bridge.layers.0.bias"])
    found = outputs(model)
    for time, y in enumerate(embedded):
        energy = torch.tanh(
            weight["decoder.reader.score.query.weight"] @ s
            + states @ weight["decoder.reader.score.key.weight"].T
            + weight["decoder.reader.score.key.bias"]
        )
        c = (energy @ weight["decoder.reader.score.score.weight"][0]).softmax(0) @ states
        s = model.decoder.stack.cells[0](torch.cat([c, y]), s)
        expected = torch.tanh(weight["decoder.readout.weight"] @ torch.cat([s, c, y]))
        torch.testing.assert_close(found[time], expected)


@torch.no_grad()
@pytest.mark.parametrize("input_feeding", [True, False])
def test_luongs_step(input_feeding: bool, vocabulary: Vocabulary) -> None:
    """h_t asks for c_t; h~_t = tanh(W [h_t; c_t]) predicts, and is part of the next input if it is fed."""
    settings = replace(SMALL, cell="gru", attention="luong_general", input_feeding=input_feeding)
    model = make(settings, vocabulary)
    states, final, embedded = inputs(model)
    weight = dict(model.named_parameters())
    h = torch.tanh(weight["bridge.layers.0.weight"] @ final + weight["bridge.layers.0.bias"])
    attentional = torch.zeros(12)
    found = outputs(model)
    for time, y in enumerate(embedded):
        h = model.decoder.stack.cells[0](torch.cat([y, attentional] if input_feeding else [y]), h)
        c = (states @ (weight["decoder.reader.score.key.weight"].T @ h)).softmax(0) @ states
        attentional = torch.tanh(weight["decoder.readout.weight"] @ torch.cat([h, c]))
        torch.testing.assert_close(found[time], attentional)


@torch.no_grad()
def test_without_context_only_the_first_state_knows_the_source(vocabulary: Vocabulary) -> None:
    """Sutskever et al. 2014: the decoder's LSTM goes on from where the encoder's stopped."""
    settings = replace(
        SMALL,
        attention="none",
        input_feeding=False,
        bidirectional=False,
        bridge="copy",
        encoder_layers=2,
        decoder_layers=2,
    )
    model = make(settings, vocabulary)
    batch = make_batch([SOURCE], [TARGET], vocabulary)
    _, (hidden, cell) = model.encoder.rnn(model.source_embedding(batch.source))
    decoder = torch.nn.LSTM(8, 12, num_layers=2, batch_first=True)
    for layer, part in enumerate(model.decoder.stack.cells):
        for name, parameter in part.named_parameters():
            decoder.get_parameter(f"{name}_l{layer}").copy_(parameter)
    expected, _ = decoder(model.target_embedding(batch.target_in), (hidden, cell))
    torch.testing.assert_close(outputs(model), torch.tanh(model.decoder.readout(expected))[0])
    assert model.encode(batch.source, batch.lengths).memory == ()


@torch.no_grad()
def test_fixed_context_enters_every_step(vocabulary: Vocabulary) -> None:
    """Cho et al. 2014: s_t = f(s_{t-1}, y_{t-1}, c) with one c for all steps."""
    model = make(replace(SMALL, cell="rnn", attention="context", bidirectional=False), vocabulary)
    _, final, embedded = inputs(model)
    weight = dict(model.named_parameters())
    s = torch.tanh(weight["bridge.layers.0.weight"] @ final + weight["bridge.layers.0.bias"])
    c = torch.tanh(weight["decoder.reader.summary.weight"] @ final + weight["decoder.reader.summary.bias"])
    found = outputs(model)
    for time, y in enumerate(embedded):
        s = model.decoder.stack.cells[0](torch.cat([c, y]), s)
        torch.testing.assert_close(found[time], torch.tanh(weight["decoder.readout.weight"] @ torch.cat([s, c, y])))


@torch.no_grad()
def test_queries_of_a_beam_share_one_source(vocabulary: Vocabulary) -> None:
    model = make(replace(SMALL, decoder_layers=2), vocabulary)
    batch = make_batch([SOURCE], [TARGET], vocabulary)
    state = model.encode(batch.source, batch.lengths)
    tokens = torch.tensor([[7, 9, 10]])
    grid = tuple(part.expand(1, 3, -1) for part in state.cells)
    output, _, weights = model.decoder.step(model.embed_target(tokens), grid, state.memory, state.lengths)
    for beam in range(3):
        embedded = model.embed_target(tokens[:, beam : beam + 1])
        alone, _, _ = model.decoder.step(embedded, state.cells, state.memory, state.lengths)
        torch.testing.assert_close(output[:, beam : beam + 1], alone)
    assert weights is not None
    assert weights.shape == (1, 3, 5)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ModelError, match="luong_general"):
        RnnSettings(attention="luong_dot", bidirectional=True)
    with pytest.raises(ModelError, match=r"one direction and as many encoder_layers .* \(there are 2 and 1\)"):
        RnnSettings(bridge="copy", bidirectional=False, encoder_layers=2)
    with pytest.raises(ModelError, match="one direction"):
        RnnSettings(bridge="copy")
    with pytest.raises(ModelError, match=r"span is 'local_p', but model.attention is 'none'"):
        RnnSettings(attention="none", span="local_p")
    with pytest.raises(ModelError, match="window is 0"):
        RnnSettings(span="local_p", window=0)
