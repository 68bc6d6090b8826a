"""An attention RNN as an encoder module and a one-step decoder module over slots x beams.

The encoder becomes ONNX's own LSTM or GRU with ``sequence_lens``, which no direction reads past; packed sequences do
not export. The decoder's recurrent state is small, so it is reordered by the beams' parents at the start of a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from export.selection import StepInputs
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.rnn import AttentionRnn, SourceMemory

# PyTorch packs the gates i, f, g, o and r, z, n; ONNX wants i, o, f, c and z, r, h.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


class RnnEncoder(nn.Module):
    """Source ids to encoder states, their attention projection, and the decoder's first state."""

    def __init__(self, model: AttentionRnn) -> None:
        super().__init__()
        self.model = model
        self.kind = "LSTM" if model.settings.cell == "lstm" else "GRU"
        for layer in range(model.settings.encoder_layers):
            for name, tensor in _onnx_weights(model.encoder_rnn, layer, self.kind).items():
                self.register_buffer(f"{name}_{layer}", tensor, persistent=False)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Memory, then initial states."""
        memory = [m.model_copy(update={"axes": (Axis.SOURCE, *m.axes[1:])}) for m in memory_specs(self.model)]
        initial = [
            TensorSpec(name=str(state.initial), dtype="float32", axes=(Axis.SOURCE, state.axes[-1]))
            for state in state_specs(self.model)
        ]
        return (*memory, *initial)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Shapes (source, src) and (source,) to the tensors of ``outputs``."""
        x = self.model.source_embedding(source).transpose(0, 1)  # (src, source, dim)
        final = x
        for layer in range(self.model.settings.encoder_layers):
            x, final = self._layer(layer, x, lengths.int())
        states = x.transpose(0, 1)
        memory = self.model.remember(states, lengths)
        initial = [state.squeeze(1) for state in self.model.bridge(final)]
        # Some attentions use the states as keys; a graph's outputs must be values of their own.
        keys = memory.keys if memory.keys is not states else memory.keys.clone()
        return memory.states, keys, *initial

    def _layer(self, layer: int, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.model.settings.hidden_dim
        directions = 2 if self.model.settings.bidirectional else 1
        src, sources, _ = x.shape
        attributes: dict[str, Any] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if directions == 2 else "forward",
        }
        if self.kind == "GRU":
            attributes["linear_before_reset"] = 1
        weights = (getattr(self, f"{name}_{layer}") for name in ("w", "r", "b"))
        every, last = torch.onnx.ops.symbolic_multi_out(
            self.kind,
            (x, *weights, lengths),
            attributes,
            dtypes=(x.dtype, x.dtype),
            shapes=((src, directions, sources, hidden), (directions, sources, hidden)),
            version=22,
        )
        return every.transpose(1, 2).flatten(2), last.transpose(0, 1).flatten(1)


class RnnDecoder(nn.Module):
    """One decoder step of all slots and beams; the attention is the alignment."""

    def __init__(self, model: AttentionRnn) -> None:
        super().__init__()
        self.model = model

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """What it reads of each source."""
        return memory_specs(self.model)

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """Attentional vector, hidden states, and cell states of an LSTM."""
        return state_specs(self.model)

    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Runs the step.

        Args:
            step: What the search feeds.
            lengths: Source lengths. Shape (slot,), int64.
            memory: Encoder states (slot, src, dim) and their projection (slot, src, dim).
            past: Shapes (slot, beam, dim), before the beams are reordered.

        Returns:
            Logits (slot, beam, vocab), alignment (slot, beam), and the next state.
        """
        parents = step.parents.unsqueeze(-1)
        state = tuple(part.gather(1, parents.expand(-1, -1, part.shape[-1])) for part in past)
        source = SourceMemory(memory[0], memory[1], lengths)
        output, present, weights = self.model.step(self.model.embed_target(step.tokens), state, source)
        return self.model.project_vocab(output), weights.argmax(-1), list(present)


def memory_specs(model: AttentionRnn) -> tuple[TensorSpec, ...]:
    """Encoder states and their attention projection."""
    keys_dim = model.attention.project_keys(torch.zeros(1, 1, model.settings.state_dim)).shape[-1]
    return tuple(
        TensorSpec(name=name, dtype="float32", axes=(Axis.SLOT, Axis.SRC, size))
        for name, size in (("encoder_states", model.settings.state_dim), ("attention_keys", keys_dim))
    )


def state_specs(model: AttentionRnn) -> tuple[StateSpec, ...]:
    """The decoder's state, in the order of ``AttentionRnn.bridge``."""
    layers = range(model.settings.decoder_layers)
    names = ["attentional", *(f"hidden_{layer}" for layer in layers)]
    if model.settings.cell == "lstm":
        names += [f"cell_{layer}" for layer in layers]
    axes = (Axis.SLOT, Axis.BEAM, model.settings.hidden_dim)
    return tuple(StateSpec(name=name, dtype="float32", axes=axes, initial=f"initial_{name}") for name in names)


def _onnx_weights(rnn: nn.RNNBase, layer: int, kind: str) -> dict[str, Tensor]:
    """ONNX's W (direction, gates, input), R (direction, gates, hidden) and B (direction, 2 * gates) of one layer."""
    suffixes = ["", "_reverse"] if rnn.bidirectional else [""]

    def gathered(name: str) -> Tensor:
        parts = [getattr(rnn, f"{name}_l{layer}{suffix}").detach() for suffix in suffixes]
        return torch.stack(
            [torch.cat([part.chunk(len(_GATES[kind]))[gate] for gate in _GATES[kind]]) for part in parts]
        )

    return {
        "w": gathered("weight_ih"),
        "r": gathered("weight_hh"),
        "b": torch.cat([gathered("bias_ih"), gathered("bias_hh")], dim=1),
    }
