"""A Transformer as an encoder module and a one-step decoder module over slots x beams.

A layer's self-attention state is a static buffer (slot, head, time * beam, dim), written in place at each slot's own
position; the beams attend as queries under a mask that admits their own ancestors only, so reordering beams moves no
state. Cross-attention keys and values are computed once per source and never replicated over beams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.selection import StepInputs
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.transformer import Transformer


class TransformerEncoder(nn.Module):
    """Source ids to every decoder layer's cross-attention keys and values."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Keys and values of each decoder layer: the decoder's memory."""
        return tuple(
            spec.model_copy(update={"axes": (Axis.SOURCE, *spec.axes[1:])}) for spec in memory_specs(self.model)
        )

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Shapes (source, src) and (source,) to 2 * layer tensors (source, head, src, dim)."""
        states = self.model.encode_states(source, lengths, lambda q, k, v: _attend_within(q, k, v, lengths))
        memory: list[Tensor] = []
        for layer in self.model.decoder_layers:
            memory += layer.cross_attention.project_keys_values(states)  # type: ignore[union-attr, operator]
        return tuple(memory)


class TransformerDecoder(nn.Module):
    """One decoder step of all slots and beams.

    Alignment is the source position that one declared head of one declared layer attends to most.
    """

    def __init__(self, model: Transformer, alignment_layer: int = -1, alignment_head: int = 0) -> None:
        super().__init__()
        self.model = model
        self.alignment_layer = alignment_layer % len(model.decoder_layers)
        self.alignment_head = alignment_head

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """What it reads of each source."""
        return memory_specs(self.model)

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """Self-attention keys and values of each layer."""
        heads, size = _head_sizes(self.model)
        axes = (Axis.SLOT, heads, Axis.TIME_BEAM, size)
        return tuple(
            StateSpec(name=f"self_{kind}_{number}", dtype="float32", axes=axes)
            for number in range(len(self.model.decoder_layers))
            for kind in ("keys", "values")
        )

    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Runs the step.

        Args:
            step: What the search feeds.
            lengths: Source lengths. Shape (slot,), int64.
            memory: Shapes (slot, head, src, dim).
            past: Shapes (slot, head, time * beam, dim).

        Returns:
            Logits (slot, beam, vocab), alignment (slot, beam), and the state with this step written into it.
        """
        present: list[Tensor] = []
        aligned: list[Tensor] = []
        beam = step.tokens.shape[1]
        own = step.ancestors.unsqueeze(-1) == torch.arange(beam)  # (slot, beam, time, beam)
        mask = own.flatten(2).unsqueeze(1)  # (slot, 1, beam, time * beam)
        write_at = step.positions * beam
        x = self.model.embed_target(step.tokens, step.positions.unsqueeze(1))
        for number, layer in enumerate(self.model.decoder_layers):
            keys, values = memory[2 * number : 2 * number + 2]
            past_keys, past_values = past[2 * number : 2 * number + 2]

            def attend_self(
                q: Tensor, k: Tensor, v: Tensor, past_keys: Tensor = past_keys, past_values: Tensor = past_values
            ) -> Tensor:
                held = _write(past_keys, k, write_at), _write(past_values, v, write_at)
                present.extend(held)
                return functional.scaled_dot_product_attention(q, *held, attn_mask=mask)

            def attend_cross(q: Tensor, keys: Tensor = keys, values: Tensor = values, number: int = number) -> Tensor:
                if number == self.alignment_layer:
                    aligned.append(self._align(q, keys, lengths))
                return _attend_within(q, keys, values, lengths)

            x = layer(x, attend_self, attend_cross)
        return self.model.project_vocab(self.model.finish_decoder(x)), aligned[0], present

    def _align(self, q: Tensor, keys: Tensor, lengths: Tensor) -> Tensor:
        weights = q[:, self.alignment_head] @ keys[:, self.alignment_head].transpose(1, 2)  # (slot, beam, src)
        outside = torch.arange(keys.shape[2]) >= lengths.unsqueeze(1)
        return weights.masked_fill(outside.unsqueeze(1), -torch.inf).argmax(-1)


def memory_specs(model: Transformer) -> tuple[TensorSpec, ...]:
    """Cross-attention keys and values of each decoder layer."""
    heads, size = _head_sizes(model)
    return tuple(
        TensorSpec(name=f"cross_{kind}_{number}", dtype="float32", axes=(Axis.SLOT, heads, Axis.SRC, size))
        for number in range(len(model.decoder_layers))
        for kind in ("keys", "values")
    )


def _head_sizes(model: Transformer) -> tuple[int, int]:
    return model.settings.heads, model.settings.dim // model.settings.heads


def _attend_within(q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Attention over the first ``lengths`` (row,) keys of each row; all else (row, head, time, dim)."""
    context: Tensor = torch.onnx.ops.symbolic(
        "Attention", (q, keys, values, None, None, None, lengths), dtype=q.dtype, shape=q.shape, version=24
    )
    return context


def _write(buffer: Tensor, update: Tensor, at: Tensor) -> Tensor:
    """Writes update (slot, head, beam, dim) into buffer (slot, head, time * beam, dim) at each slot's own place."""
    written: Tensor = torch.onnx.ops.symbolic(
        "TensorScatter", (buffer, update, at), {"axis": 2}, dtype=buffer.dtype, shape=buffer.shape, version=24
    )
    return written
