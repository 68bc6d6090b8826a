"""Recurrent layers: an encoder over padded rows, a stack of cells for the decoder, and the bridge between the two.

The kinds of cells differ only in what ``CELLS`` says of them, so nothing else asks which one it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from training.models.attention import Encoded

CellKind = Literal["rnn", "gru", "lstm"]


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell.

    Attributes:
        layers: PyTorch's module over whole sequences.
        step: PyTorch's module for one step.
        parts: What its state consists of; the first is its output.
    """

    layers: type[nn.RNNBase]
    step: type[nn.RNNCellBase]
    parts: tuple[str, ...]


CELLS: dict[CellKind, Cell] = {
    "rnn": Cell(nn.RNN, nn.RNNCell, ("hidden",)),  # tanh (Elman 1990)
    "gru": Cell(nn.GRU, nn.GRUCell, ("hidden",)),  # Cho et al. 2014
    "lstm": Cell(nn.LSTM, nn.LSTMCell, ("hidden", "cell")),  # Hochreiter and Schmidhuber 1997
}


class RecurrentEncoder(nn.Module):
    """Layers of one kind of cell over padded rows, in one direction or both."""

    def __init__(
        self, kind: CellKind, input_dim: int, hidden_dim: int, depth: int, *, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.depth, self.directions = depth, 2 if bidirectional else 1
        self.state_dim = hidden_dim * self.directions
        self.rnn = CELLS[kind].layers(  # type: ignore[call-arg]
            input_size=input_dim,
            hidden_size=hidden_dim,
            num_layers=depth,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if depth > 1 else 0.0,
        )

    def forward(self, embedded: Tensor, lengths: Tensor) -> tuple[Encoded, list[tuple[Tensor, ...]]]:
        """Run over packed rows, so that no direction ever sees padding.

        Args:
            embedded: Shape (row, src, input_dim).
            lengths: Shape (row,), int64.

        Returns:
            The encoded sources; and each layer's final state, part by part, of shape (row, state_dim).
        """
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, final = self.rnn(packed)
        states, _ = pad_packed_sequence(outputs, batch_first=True, total_length=embedded.shape[1])
        parts = final if isinstance(final, tuple) else (final,)
        by_layer = [part.unflatten(0, (self.depth, self.directions)) for part in parts]
        finals = [tuple(torch.cat(tuple(part[layer]), dim=-1) for part in by_layer) for layer in range(self.depth)]
        return Encoded(states, finals[-1][0], lengths), finals


class CellStack(nn.Module):
    """Cells on top of one another, for one step at a time.

    Attributes:
        state: Names of the state's parts, layer by layer; the state has them in this order.
    """

    def __init__(self, kind: CellKind, input_dim: int, hidden_dim: int, depth: int, *, dropout: float) -> None:
        super().__init__()
        self.parts, self.dropout = CELLS[kind].parts, dropout
        self.cells = nn.ModuleList(
            CELLS[kind].step(input_dim if layer == 0 else hidden_dim, hidden_dim)  # type: ignore[call-arg]
            for layer in range(depth)
        )
        self.state = tuple(f"{part}_{layer}" for layer in range(depth) for part in self.parts)

    def top(self, state: Sequence[Tensor]) -> Tensor:
        """Return the top layer's output within a state, shape (row, hidden_dim)."""
        return state[-len(self.parts)]

    def forward(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Feed one input, shape (row, input_dim); maps a state to the next, each part of shape (row, hidden_dim)."""
        following: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            past = tuple(state[layer * len(self.parts) : (layer + 1) * len(self.parts)])
            advanced = cell(x, past if len(past) > 1 else past[0])
            following += advanced if isinstance(advanced, tuple) else (advanced,)
            # Between layers only (Zaremba, Sutskever and Vinyals 2014).
            x = dropout(self.top(following), self.dropout, self.training)
        return tuple(following)


class DenseBridge(nn.Module):
    """Each layer starts from tanh(W h + b) of the encoder's last hidden state h (Cho et al. 2014).

    The second part of an LSTM's state starts from 0.
    """

    def __init__(self, state_dim: int, hidden_dim: int, depth: int, parts: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(state_dim, hidden_dim) for _ in range(depth))
        self.parts = parts

    def forward(self, finals: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Map the encoder's final states, shape (row, state_dim) each, to decoder states (row, hidden_dim)."""
        first: list[Tensor] = []
        for layer in self.layers:
            hidden = torch.tanh(layer(finals[-1][0]))
            first += (hidden, *(torch.zeros_like(hidden) for _ in range(self.parts - 1)))
        return tuple(first)


class CopyBridge(nn.Module):
    """Each decoder layer starts from the final state of the encoder layer beside it (Sutskever et al. 2014)."""

    def forward(self, finals: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """All parts of all layers in order, shape (row, hidden_dim) each."""
        return tuple(part for layer in finals for part in layer)
