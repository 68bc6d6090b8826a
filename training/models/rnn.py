"""Recurrent encoder-decoders, from the fixed context vector to attention.

What they share: an encoder of recurrent layers, a bridge that makes the decoder's first state, a stack of cells, and a
reader of the source (``attention.py``). They differ in the order of a decoder step, of which there are two: Bahdanau's,
where the context enters the cells, and Luong's, where the cells' output asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from training.errors import ModelError
from training.models.attention import AttentionKind, SourceReader, SpanKind, build_reader
from training.models.contract import TranslationModel, Vocabulary
from training.models.dropout import TimeSharedDropout
from training.models.recurrent import CELLS, CellKind, CellStack, CopyBridge, DenseBridge, RecurrentEncoder
from training.models.tying import Tie, build_embeddings

State = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class RnnSettings:
    """Sizes and variants of a recurrent model.

    Attributes:
        family: Tells the model families apart in a config file.
        cell: Tanh units (``rnn``), GRU or LSTM.
        embedding_dim: Width of token embeddings.
        hidden_dim: Width of the decoder's state, and of the encoder's in each direction.
        encoder_layers: Encoder depth.
        decoder_layers: Decoder depth.
        bidirectional: Read the source in both directions.
        bridge: The decoder starts from a layer over the encoder's last state (``dense``), or a copy of it (``copy``).
        attention: A score; or ``none`` (Sutskever et al. 2014), or the fixed vector ``context`` (Cho et al. 2014).
            ``bahdanau`` and ``context`` follow Bahdanau's order of a step, the others Luong's.
        span: Attend to the whole source (``global``) or around a predicted position (``local_p``).
        window: Positions on either side of the predicted one.
        attention_dim: Inner width of the additive scores, ``bahdanau`` and ``luong_concat``.
        input_feeding: In Luong's order, feed the attentional vector to the next step.
        tie: One matrix for source, target and output (``all``), for target and output (``target``), or none.
        dropout: On embeddings, between layers and on the attentional vector.
    """

    family: Literal["rnn"] = "rnn"
    cell: CellKind = "lstm"
    embedding_dim: int = 256
    hidden_dim: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    bridge: Literal["dense", "copy"] = "dense"
    attention: AttentionKind = "bahdanau"
    span: SpanKind = "global"
    window: int = 10
    attention_dim: int = 256
    input_feeding: bool = True
    tie: Tie = "all"
    dropout: float = 0.2

    @property
    def state_dim(self) -> int:
        """Width of the encoder states."""
        return self.hidden_dim * (2 if self.bidirectional else 1)

    def __post_init__(self) -> None:
        """Check that the settings fit together.

        Raises:
            ModelError: If dot attention would compare vectors of different widths, states would be copied between
                layers that do not match, or a span is given to a model without attention.
        """
        if self.attention == "luong_dot" and self.bidirectional:
            raise ModelError(
                f"model.attention is 'luong_dot', but encoder states have {self.state_dim} dimensions and queries "
                f"{self.hidden_dim}; set bidirectional to false, or use 'luong_general'"
            )
        if self.bridge == "copy" and (self.bidirectional or self.encoder_layers != self.decoder_layers):
            raise ModelError(
                "model.bridge is 'copy', which needs an encoder of one direction and as many encoder_layers as "
                f"decoder_layers (there are {self.encoder_layers} and {self.decoder_layers}); use 'dense'"
            )
        if self.span != "global" and self.attention in ("none", "context"):
            raise ModelError(f"model.span is '{self.span}', but model.attention is '{self.attention}'; leave span out")
        if self.window < 1:
            raise ModelError(f"model.window is {self.window}; give at least 1")

    def check_lengths(self, source: int, target: int) -> None:
        """Texts may have any number of tokens."""


class RnnDecoder(nn.Module):
    """Base: decoder steps from explicit state. Queries of one row (a beam) share its source.

    Attributes:
        state: Names of the parts of the state, in order; each has shape (row, query, hidden).
    """

    def __init__(self, settings: RnnSettings, reader: SourceReader, *, input_dim: int, readout_dim: int) -> None:
        super().__init__()
        self.reader = reader
        self.stack = CellStack(
            settings.cell, input_dim, settings.hidden_dim, settings.decoder_layers, dropout=settings.dropout
        )
        self.readout = nn.Linear(readout_dim, settings.hidden_dim, bias=False)
        self.state: tuple[str, ...] = self.stack.state

    def start(self, cells: State) -> State:
        """Return the first state, given the cells' first state, shape (row, hidden) each; adds the query axis."""
        return tuple(part.unsqueeze(1) for part in cells)

    def advance(self, x: Tensor, cells: State) -> State:
        """Run the cells on x, shape (row, query, input_dim), from a state of shapes (row, query, hidden)."""
        rows, queries = x.shape[:2]
        # Cells take one leading axis, so rows and queries are folded into it and unfolded again.
        following = self.stack(x.flatten(0, 1), [part.flatten(0, 1) for part in cells])
        return tuple(part.reshape(rows, queries, -1) for part in following)

    def step(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...], lengths: Tensor
    ) -> tuple[Tensor, State, Tensor | None]:
        """Feed one token to each query.

        Args:
            embedded: Shape (row, query, embedding_dim).
            state: As ``state`` names it.
            memory: What the reader remembers of the sources, not repeated over queries.
            lengths: Of the sources, shape (row,), int64.

        Returns:
            What predicts the next token, shape (row, query, hidden); the next state; and the attention weights, shape
            (row, query, src), if there are any.
        """
        raise NotImplementedError

    def forward(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...], lengths: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Feed known tokens, shape (row, time, embedding_dim), one after the other.

        Returns:
            Outputs of shape (row, time, hidden), and weights of shape (row, time, src), if there are any.
        """
        outputs: list[Tensor] = []
        weights: list[Tensor] = []
        for token in embedded.split(1, dim=1):
            output, state, weight = self.step(token, state, memory, lengths)
            outputs.append(output)
            weights += [] if weight is None else [weight]
        return torch.cat(outputs, dim=1), torch.cat(weights, dim=1) if weights else None


class BahdanauDecoder(RnnDecoder):
    """The last state asks for the context, which enters the cells beside the token, and the output beside the state.

    Source: Bahdanau et al. 2015, appendix A.2.2, with tanh(W [state; context; token]) in place of the maxout layer.
    """

    def __init__(self, settings: RnnSettings, reader: SourceReader) -> None:
        given = settings.embedding_dim + reader.context_dim
        super().__init__(settings, reader, input_dim=given, readout_dim=settings.hidden_dim + given)

    def step(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...], lengths: Tensor
    ) -> tuple[Tensor, State, Tensor | None]:
        """Map shape (row, query, embedding_dim) to (row, query, hidden); see the base class."""
        context, weights = self.reader(self.stack.top(state), memory, lengths)
        given = torch.cat([context, embedded], dim=-1)
        state = self.advance(given, state)
        return torch.tanh(self.readout(torch.cat([self.stack.top(state), given], dim=-1))), state, weights


class LuongDecoder(RnnDecoder):
    """The new state asks for the context; tanh(W [state; context]) predicts, and is fed to the next step if wanted.

    Source: Luong, Pham and Manning 2015, equation 5 and section 3.3.
    """

    def __init__(self, settings: RnnSettings, reader: SourceReader) -> None:
        hidden = settings.hidden_dim
        self.fed = 1 if settings.input_feeding else 0
        input_dim = settings.embedding_dim + self.fed * hidden
        super().__init__(settings, reader, input_dim=input_dim, readout_dim=hidden + reader.context_dim)
        self.state = ("attentional",)[: self.fed] + self.stack.state

    def start(self, cells: State) -> State:
        """Return the first state: a zero attentional vector if it is fed, and the cells' state (row, hidden) each."""
        first = super().start(cells)
        return (torch.zeros_like(first[0]),)[: self.fed] + first

    def _attend(self, queries: Tensor, memory: tuple[Tensor, ...], lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        context, weights = self.reader(queries, memory, lengths)
        return torch.tanh(self.readout(torch.cat([queries, context], dim=-1))), weights

    def step(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...], lengths: Tensor
    ) -> tuple[Tensor, State, Tensor | None]:
        """Map shape (row, query, embedding_dim) to (row, query, hidden); see the base class."""
        cells = self.advance(torch.cat([embedded, *state[: self.fed]], dim=-1), state[self.fed :])
        output, weights = self._attend(self.stack.top(cells), memory, lengths)
        return output, (output,)[: self.fed] + cells, weights

    def forward(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...], lengths: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Map shape (row, time, embedding_dim) to (row, time, hidden); see the base class."""
        if self.fed:
            return super().forward(embedded, state, memory, lengths)
        # No step needs the attention of the one before it, so all of them attend at once.
        queries: list[Tensor] = []
        for token in embedded.split(1, dim=1):
            state = self.advance(token, state)
            queries.append(self.stack.top(state))
        return self._attend(torch.cat(queries, dim=1), memory, lengths)


@dataclass(frozen=True)
class RnnState:
    """Decoder state.

    Attributes:
        cells: Shape (row, 1, hidden) each; ``RnnDecoder.state`` names them.
        memory: What the reader remembers of the sources, shape (row, ...) each.
        lengths: Of the sources, shape (row,), int64.
    """

    cells: State
    memory: tuple[Tensor, ...]
    lengths: Tensor

    def select(self, rows: Tensor) -> Self:
        """Take rows by index, shape (new_row,), int64."""
        return type(self)(tuple(c[rows] for c in self.cells), tuple(m[rows] for m in self.memory), self.lengths[rows])


class Rnn(TranslationModel[RnnState]):
    """Recurrent encoder-decoder."""

    def __init__(self, settings: RnnSettings, vocabulary: Vocabulary) -> None:
        """Build the layers with fresh weights.

        Raises:
            ModelError: If all embeddings are to be tied but the two sides do not share a vocabulary.
        """
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        width, hidden = settings.embedding_dim, settings.hidden_dim
        self.source_embedding, self.target_embedding, self.vocab_projection = build_embeddings(
            settings.tie, vocabulary, width, output_bias=True
        )
        self.encoder = RecurrentEncoder(
            settings.cell,
            width,
            hidden,
            settings.encoder_layers,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout,
        )
        self.bridge: nn.Module = CopyBridge()
        if settings.bridge == "dense":
            parts = len(CELLS[settings.cell].parts)
            self.bridge = DenseBridge(settings.state_dim, hidden, settings.decoder_layers, parts)
        reader = build_reader(
            settings.attention,
            settings.span,
            query_dim=hidden,
            state_dim=settings.state_dim,
            attention_dim=settings.attention_dim,
            window=settings.window,
        )
        order = BahdanauDecoder if settings.attention in ("bahdanau", "context") else LuongDecoder
        self.decoder: RnnDecoder = order(settings, reader)
        self.output = nn.Linear(hidden, width, bias=False)
        self.dropout = TimeSharedDropout(settings.dropout)

    def embed_target(self, tokens: Tensor) -> Tensor:
        """Embed decoder inputs: shape (row, query), int64, to (row, query, embedding_dim)."""
        return self.dropout(self.target_embedding(tokens))  # type: ignore[no-any-return]

    def project_vocab(self, hidden: Tensor) -> Tensor:
        """Project shape (..., hidden) to logits (..., vocab)."""
        return self.vocab_projection(self.output(hidden))  # type: ignore[no-any-return]

    def hidden(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Teacher-forced decoder outputs, shape (row, time, hidden); see the base class."""
        state = self.encode(source, lengths)
        outputs, _ = self.decoder(self.embed_target(target), state.cells, state.memory, lengths)
        return self.dropout(outputs)  # type: ignore[no-any-return]

    def attention(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Attention weights, shape (layer, row, head, time, src), of one layer and head, or of none."""
        state = self.encode(source, lengths)
        weights: Tensor | None = self.decoder(self.embed_target(target), state.cells, state.memory, lengths)[1]
        if weights is None:
            return state.cells[0].new_zeros(0, source.shape[0], 1, target.shape[1], source.shape[1])
        return weights[None, :, None]

    def encode(self, source: Tensor, lengths: Tensor) -> RnnState:
        """Encode the source, shape (row, src) with lengths (row,), and make the decoder's first state."""
        encoded, finals = self.encoder(self.dropout(self.source_embedding(source)), lengths)
        return RnnState(self.decoder.start(self.bridge(finals)), self.decoder.reader.remember(encoded), lengths)

    def decode_step(self, tokens: Tensor, state: RnnState) -> tuple[Tensor, RnnState]:
        """Feed one token to every row; shape (row,) to logits (row, vocab) and the next state."""
        embedded = self.embed_target(tokens[:, None])
        output, cells, _ = self.decoder.step(embedded, state.cells, state.memory, state.lengths)
        return self.project_vocab(output)[:, 0], RnnState(cells, state.memory, state.lengths)
