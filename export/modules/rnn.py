"""A recurrent model as an encoder module and a one-step decoder module over slots x beams.

The encoder becomes ONNX's own RNN, GRU or LSTM with ``sequence_lens``, which no direction reads past; packed sequences
do not export. The decoder's recurrent state is small, so it is reordered by the beams' parents at the start of a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from export.modules.contract import Attended, FamilyDecoder, FamilyEncoder, StepInputs, encoder_outputs
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.attention import Attention, Encoded, PredictedSpan
from training.models.recurrent import CELLS, CellKind, RecurrentEncoder
from training.models.rnn import Rnn


@dataclass(frozen=True)
class _Operator:
    """An ONNX operator for recurrent layers.

    Attributes:
        name: Of the operator.
        gates: Where PyTorch packs the gates that ONNX wants: i, o, f, c of i, f, g, o and z, r, h of r, z, n.
        attributes: Those that make it compute what PyTorch does.
    """

    name: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


_OPERATORS: dict[CellKind, _Operator] = {
    "rnn": _Operator("RNN", (0,)),
    "gru": _Operator("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "lstm": _Operator("LSTM", (0, 3, 1, 2)),
}


class RnnEncoder(FamilyEncoder):
    """Source ids to what the decoder's reader remembers of them, and the decoder's first state."""

    def __init__(self, model: Rnn) -> None:
        super().__init__()
        self.model = model
        self.operator = _OPERATORS[model.settings.cell]
        self.parts = len(CELLS[model.settings.cell].parts)
        for layer in range(model.encoder.depth):
            for name, tensor in _onnx_weights(model.encoder, layer, self.operator).items():
                self.register_buffer(f"{name}_{layer}", tensor, persistent=False)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Memory, then initial states."""
        initial = [
            TensorSpec(name=str(state.initial), dtype="float32", axes=(Axis.SOURCE, state.axes[-1]))
            for state in state_specs(self.model)
        ]
        return (*encoder_outputs(memory_specs(self.model)), *initial)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Shapes (source, src) and (source,) to the tensors of ``outputs``."""
        x = self.model.source_embedding(source).transpose(0, 1)  # (src, source, dim)
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.model.encoder.depth):
            x, final = self._layer(layer, x, lengths.int())
            finals.append(final)
        memory = self.model.decoder.reader.remember(Encoded(x.transpose(0, 1), finals[-1][0], lengths))
        initial = self.model.decoder.start(self.model.bridge(finals))
        return *memory, *(state.squeeze(1) for state in initial)

    def _layer(self, layer: int, x: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        encoder = self.model.encoder
        hidden, directions = self.model.settings.hidden_dim, encoder.directions
        src, sources, _ = x.shape
        attributes = {
            "hidden_size": hidden,
            "direction": "bidirectional" if directions == 2 else "forward",
            **self.operator.attributes,
        }
        weights = (getattr(self, f"{name}_{layer}") for name in ("w", "r", "b"))
        every, *last = torch.onnx.ops.symbolic_multi_out(
            self.operator.name,
            (x, *weights, lengths),
            attributes,
            dtypes=(x.dtype,) * (1 + self.parts),
            shapes=((src, directions, sources, hidden), *((directions, sources, hidden),) * self.parts),
            version=22,
        )
        return every.transpose(1, 2).flatten(2), tuple(part.transpose(0, 1).flatten(1) for part in last)


class RnnStep(FamilyDecoder):
    """One decoder step of all slots and beams; the attention, where there is one, is the model's only one."""

    def __init__(self, model: Rnn) -> None:
        super().__init__()
        self.model = model

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """Memory of the reader."""
        return memory_specs(self.model)

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """The parts of the model's own decoder state."""
        return state_specs(self.model)

    @property
    def has_attention(self) -> bool:
        """Whether the model does more than read one vector."""
        return isinstance(self.model.decoder.reader, Attention)

    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Attended, list[Tensor]]:
        """Run the step, from the state (slot, beam, dim) before the beams are reordered; see the base class."""
        parents = step.parents.unsqueeze(-1)
        state = tuple(part.gather(1, parents.expand(-1, -1, part.shape[-1])) for part in past)
        embedded = self.model.embed_target(step.tokens)
        output, present, weights = self.model.decoder.step(embedded, state, tuple(memory), lengths)
        return self.model.project_vocab(output), self._attended(step, lengths, weights), list(present)

    def _attended(self, step: StepInputs, lengths: Tensor, weights: Tensor | None) -> Attended:
        if weights is None:
            # The end token aligns with nothing: so do all tokens of a model without attention.
            return Attended((lengths - 1).unsqueeze(1).expand(step.tokens.shape))
        most = weights.argmax(-1)
        reader = self.model.decoder.reader
        if isinstance(reader, Attention) and isinstance(reader.span, PredictedSpan):
            weights = weights / weights.sum(-1, keepdim=True)  # in the model they sum to less
        return Attended(most, weights)


def memory_specs(model: Rnn) -> tuple[TensorSpec, ...]:
    """Declare what the reader remembers of a source."""
    return tuple(
        TensorSpec(name=name, dtype="float32", axes=(Axis.SLOT, *(Axis(a) if isinstance(a, str) else a for a in axes)))
        for name, axes in model.decoder.reader.memory.items()
    )


def state_specs(model: Rnn) -> tuple[StateSpec, ...]:
    """Declare the decoder's state."""
    axes = (Axis.SLOT, Axis.BEAM, model.settings.hidden_dim)
    return tuple(
        StateSpec(name=name, dtype="float32", axes=axes, initial=f"initial_{name}") for name in model.decoder.state
    )


def _onnx_weights(encoder: RecurrentEncoder, layer: int, operator: _Operator) -> dict[str, Tensor]:
    """ONNX's W (direction, gates, input), R (direction, gates, hidden) and B (direction, 2 * gates) of one layer."""
    suffixes = ("", "_reverse")[: encoder.directions]

    def gathered(name: str) -> Tensor:
        parts = [getattr(encoder.rnn, f"{name}_l{layer}{suffix}").detach() for suffix in suffixes]
        return torch.stack(
            [torch.cat([part.chunk(len(operator.gates))[gate] for gate in operator.gates]) for part in parts]
        )

    return {
        "w": gathered("weight_ih"),
        "r": gathered("weight_hh"),
        "b": torch.cat([gathered("bias_ih"), gathered("bias_hh")], dim=1),
    }
