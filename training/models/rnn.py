"""Recurrent encoder-decoder with attention (Bahdanau et al. 2015; Luong et al. 2015).

The encoder is an LSTM or GRU, uni- or bidirectional. The decoder is a stack of cells. At each step the first cell reads
the last token and the previous attentional vector ("input feeding", Luong section 3.3); the top cell's output queries
the source; and tanh(W [output; context]) is the attentional vector that predicts the next token (Luong equation 5).
Bahdanau's own model queries with the state before the step; here both kinds of scores are used in Luong's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from training.errors import ModelError
from training.models.attention import AttentionKind, build_attention
from training.models.contract import TranslationModel, Vocabulary
from training.models.dropout import TimeSharedDropout
from training.models.masks import length_mask


@dataclass(frozen=True, kw_only=True)
class RnnSettings:
    """Sizes and variants of an attention RNN.

    Attributes:
        family: Tells the model families apart in a config file.
        cell: LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014).
        embedding_dim: Width of token embeddings.
        hidden_dim: Width of the decoder's state, and of the encoder's in each direction.
        encoder_layers: Encoder depth.
        decoder_layers: Decoder depth.
        bidirectional: Read the source in both directions.
        attention: The scoring function.
        attention_dim: Inner width of Bahdanau's attention.
        tie: One matrix for source, target and output (`all`), for target and output (`target`), or none.
        dropout: On embeddings, between layers and on the attentional vector.
    """

    family: Literal["rnn"] = "rnn"
    cell: Literal["lstm", "gru"] = "lstm"
    embedding_dim: int = 256
    hidden_dim: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    attention: AttentionKind = "bahdanau"
    attention_dim: int = 256
    tie: Literal["all", "target", "none"] = "all"
    dropout: float = 0.2

    @property
    def state_dim(self) -> int:
        """Width of the encoder states."""
        return self.hidden_dim * (2 if self.bidirectional else 1)

    def __post_init__(self) -> None:
        """Check that the sizes fit together.

        Raises:
            ModelError: If dot attention would compare vectors of different widths.
        """
        if self.attention == "luong_dot" and self.bidirectional:
            raise ModelError(
                f"model.attention is 'luong_dot', but encoder states have {self.state_dim} dimensions and queries "
                f"{self.hidden_dim}; set bidirectional to false, or use 'luong_general'."
            )


@dataclass(frozen=True)
class SourceMemory:
    """What the decoder attends to.

    Attributes:
        states: Shape (row, src, state_dim).
        keys: Their attention projection, shape (row, src, attention_dim).
        lengths: Shape (row,), int64.
    """

    states: Tensor
    keys: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class RnnState:
    """Decoder state.

    Attributes:
        cells: Shape (row, 1, width) each; see `AttentionRnn.bridge` for their order.
        memory: The encoded source.
    """

    cells: tuple[Tensor, ...]
    memory: SourceMemory

    def select(self, rows: Tensor) -> Self:
        """Take rows by index, shape (new_row,), int64."""
        memory = SourceMemory(self.memory.states[rows], self.memory.keys[rows], self.memory.lengths[rows])
        return type(self)(tuple(c[rows] for c in self.cells), memory)


class AttentionRnn(TranslationModel[RnnState]):
    """LSTM or GRU encoder-decoder with attention."""

    def __init__(self, settings: RnnSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights.

        Raises:
            ModelError: If all embeddings are to be tied but the two sides do not share a vocabulary.
        """
        super().__init__()
        if settings.tie == "all" and not vocabulary.shared:
            raise ModelError("model.tie is 'all', but source and target vocabularies differ; set it to 'target'.")
        self.settings, self.vocabulary = settings, vocabulary
        hidden, width = settings.hidden_dim, settings.embedding_dim
        self.target_embedding = nn.Embedding(vocabulary.target_size, width)
        self.source_embedding = (
            self.target_embedding if settings.tie == "all" else nn.Embedding(vocabulary.source_size, width)
        )
        rnn = nn.LSTM if settings.cell == "lstm" else nn.GRU
        self.encoder_rnn = rnn(
            width,
            hidden,
            settings.encoder_layers,
            batch_first=True,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout if settings.encoder_layers > 1 else 0.0,
        )
        cell = nn.LSTMCell if settings.cell == "lstm" else nn.GRUCell
        # Input feeding: the first cell reads the embedding beside the previous attentional vector.
        self.decoder_cells = nn.ModuleList(
            cell(width + hidden if i == 0 else hidden, hidden) for i in range(settings.decoder_layers)
        )
        self.bridges = nn.ModuleList(nn.Linear(settings.state_dim, hidden) for _ in range(settings.decoder_layers))
        self.attention = build_attention(settings.attention, hidden, settings.state_dim, settings.attention_dim)
        self.combine = nn.Linear(hidden + settings.state_dim, hidden, bias=False)
        self.output = nn.Linear(hidden, width, bias=False)
        self.vocab_projection = nn.Linear(width, vocabulary.target_size)
        if settings.tie != "none":
            self.vocab_projection.weight = self.target_embedding.weight
        self.dropout = TimeSharedDropout(settings.dropout)
        for weight in {self.source_embedding.weight, self.target_embedding.weight, self.vocab_projection.weight}:
            nn.init.normal_(weight, std=width**-0.5)
        nn.init.zeros_(self.vocab_projection.bias)

    def encode_states(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run the encoder over packed rows, so that no direction ever sees padding.

        Args:
            source: Shape (row, src), int64.
            lengths: Shape (row,), int64.

        Returns:
            States of shape (row, src, state_dim), zero at padding; and the top layer's final hidden state, both
            directions side by side, of shape (row, state_dim).
        """
        embedded = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, final = self.encoder_rnn(packed)
        states, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        hidden = final[0] if isinstance(final, tuple) else final
        directions = 2 if self.settings.bidirectional else 1
        return states, torch.cat(tuple(hidden[-directions:]), dim=-1)

    def bridge(self, final: Tensor) -> tuple[Tensor, ...]:
        """Turn the encoder's final hidden state into the decoder's first state.

        Args:
            final: Shape (row, state_dim).

        Returns:
            The attentional vector (zeros), then each layer's hidden state tanh(W final + b), then, for LSTM, each
            layer's cell state (zeros); each of shape (row, 1, hidden).
        """
        hidden = [torch.tanh(bridge(final))[:, None, :] for bridge in self.bridges]
        zeros = torch.zeros_like(hidden[0])
        cells = [zeros for _ in hidden] if self.settings.cell == "lstm" else []
        return (zeros, *hidden, *cells)

    def embed_target(self, tokens: Tensor) -> Tensor:
        """Embed decoder inputs: shape (row, query), int64, to (row, query, embedding_dim)."""
        return self.dropout(self.target_embedding(tokens))  # type: ignore[no-any-return]

    def remember(self, states: Tensor, lengths: Tensor) -> SourceMemory:
        """Project encoder states, shape (row, src, state_dim), to attention keys, once per source."""
        return SourceMemory(states, self.attention.project_keys(states), lengths)

    def step(
        self, embedded: Tensor, state: tuple[Tensor, ...], memory: SourceMemory
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Run the decoder for one token of each query; the queries of a row share its source.

        Args:
            embedded: Shape (row, query, embedding_dim).
            state: As `bridge` orders it, each of shape (row, query, hidden).
            memory: The encoded source, not repeated over queries.

        Returns:
            The attentional vector of shape (row, query, hidden), the next state, and the attention weights of shape
            (row, query, src).
        """
        rows, queries = embedded.shape[:2]
        depth = self.settings.decoder_layers
        # Cells take one leading axis, so rows and queries are folded into it and unfolded again.
        feed, *past = (part.flatten(0, 1) for part in state)
        x = torch.cat([embedded.flatten(0, 1), feed], dim=-1)
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for i, cell in enumerate(self.decoder_cells):
            if self.settings.cell == "lstm":
                h, c = cell(x, (past[i], past[depth + i]))
                cells.append(c)
            else:
                h = cell(x, past[i])
            hidden.append(h)
            x = h
        top = x.reshape(rows, queries, -1)
        mask = length_mask(memory.lengths, memory.states.shape[1])
        context, weights = self.attention(top, memory.states, memory.keys, mask)
        output = torch.tanh(self.combine(torch.cat([top, context], dim=-1)))
        advanced = tuple(part.reshape(rows, queries, -1) for part in (*hidden, *cells))
        return output, (output, *advanced), weights

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Shape (..., hidden) to logits (..., vocab)."""
        return self.vocab_projection(self.output(hidden))  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced attentional vectors, shape (row, time, hidden); see the base class."""
        state = self.encode(source, lengths)
        embedded, cells, outputs = self.embed_target(target), state.cells, []
        for time in range(target.shape[1]):
            output, cells, _ = self.step(embedded[:, time : time + 1], cells, state.memory)
            outputs.append(output)
        return self.dropout(torch.cat(outputs, dim=1))  # type: ignore[no-any-return]

    def encode(self, source: Tensor, lengths: Tensor) -> RnnState:
        """Encode the source, shape (row, src) with lengths (row,), and make the decoder's first state."""
        states, final = self.encode_states(source, lengths)
        return RnnState(self.bridge(final), self.remember(states, lengths))

    def decode_step(self, tokens: Tensor, state: RnnState) -> tuple[Tensor, RnnState]:
        """Feed one token a row; shape (row,) to logits (row, vocab) and the next state."""
        output, cells, _ = self.step(self.embed_target(tokens[:, None]), state.cells, state.memory)
        return self.project_vocab(output)[:, 0], RnnState(cells, state.memory)
