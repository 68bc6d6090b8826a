"""A Transformer as an encoder module and a one-step decoder module over slots x beams.

A layer's self-attention state is a static buffer (slot, entry, dim), written in place where the cache's bookkeeping
says (``serving.runtime.cache_table``); the beams attend as queries under its mask, which admits each beam's own
ancestors only, so reordering beams moves no state. Cross-attention keys and values are computed once per source and
never replicated over beams. The heads stay side by side in ``dim``, as the projections give them: ONNX's Attention
takes them apart, so nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from export.modules.candidates import StepInputs
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.transformer import Transformer
from training.models.transformer_layers import DecoderLayer


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
        """Shapes (source, src) and (source,) to 2 * layer tensors (source, src, dim)."""
        heads = self.model.settings.heads
        states = self.model.encode_states(source, lengths, partial(attend_within, lengths=lengths, heads=heads))
        memory: list[Tensor] = []
        for layer in cast("Iterable[DecoderLayer]", self.model.decoder_layers):
            memory += layer.cross_attention.project_keys_values(states)
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
        width = self.model.settings.decoder_kv_dim
        return tuple(
            StateSpec(name=f"self_{kind}_{n}", dtype="float32", axes=(Axis.SLOT, Axis.ENTRY, width))
            for n in range(len(self.model.decoder_layers))
            for kind in ("keys", "values")
        )

    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Runs the step.

        Args:
            step: What the search feeds.
            lengths: Source lengths. Shape (slot,), int64.
            memory: Shapes (slot, src, dim).
            past: Shapes (slot, entry, dim).

        Returns:
            Logits (slot, beam, vocab), alignment (slot, beam), and the state with this step written into it.
        """
        present: list[Tensor] = []
        aligned: list[Tensor] = []
        heads = self.model.settings.heads
        positions = step.positions.unsqueeze(1)
        x, rotate = self.model.embed_target(step.tokens, positions), self.model.target_positions.rotation(positions)
        for number, layer in enumerate(cast("Iterable[DecoderLayer]", self.model.decoder_layers)):
            keys, values = memory[2 * number : 2 * number + 2]
            held = past[2 * number : 2 * number + 2]

            def attend_self(q: Tensor, k: Tensor, v: Tensor, held: list[Tensor] = held) -> Tensor:
                written = [write(buffer, update, step.places) for buffer, update in zip(held, (k, v), strict=True)]
                present.extend(written)
                return attend(q, written[0], written[1], step.mask, heads=heads)

            def attend_cross(q: Tensor, keys: Tensor = keys, values: Tensor = values, number: int = number) -> Tensor:
                if number == self.alignment_layer:
                    aligned.append(most_attended(q, keys, lengths, heads=heads, head=self.alignment_head))
                return attend_within(q, keys, values, lengths, heads=heads)

            x = layer(x, rotate, attend_self, attend_cross)
        return self.model.project_vocab(self.model.finish_decoder(x)), aligned[0], present


def memory_specs(model: Transformer) -> tuple[TensorSpec, ...]:
    """Cross-attention keys and values of each decoder layer."""
    width = model.settings.decoder_kv_dim
    return tuple(
        TensorSpec(name=f"cross_{kind}_{number}", dtype="float32", axes=(Axis.SLOT, Axis.SRC, width))
        for number in range(len(model.decoder_layers))
        for kind in ("keys", "values")
    )


def most_attended(q: Tensor, keys: Tensor, lengths: Tensor, *, heads: int, head: int) -> Tensor:
    """The source position that one head attends to most.

    Args:
        q: Queries. Shape (slot, beam, dim).
        keys: Shape (slot, src, dim), or narrower if there are fewer heads of keys.
        lengths: Source lengths. Shape (slot,), int64.
        heads: Number of heads of queries.
        head: Which of them.

    Returns:
        Shape (slot, beam), int64.
    """
    size, group = q.shape[-1] // heads, q.shape[-1] // keys.shape[-1]
    weights = q.narrow(-1, head * size, size) @ keys.narrow(-1, head // group * size, size).transpose(1, 2)
    outside = torch.arange(keys.shape[1]) >= lengths.unsqueeze(1)
    best: Tensor = weights.masked_fill(outside.unsqueeze(1), -torch.inf).topk(1).indices.squeeze(-1)
    return best  # argmax would need cuDNN on a GPU


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """Attention of all heads; q (slot, beam, dim), keys, values (slot, entry, dim), mask (slot, 1, beam, entry)."""
    return _attention((q, keys, values, mask), heads)


def attend_within(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
    """Attention over the first ``lengths`` (row,) keys of each row; all else (row, time, dim)."""
    return _attention((q, k, v, None, None, None, lengths), heads)


def _attention(inputs: tuple[Tensor | None, ...], heads: int) -> Tensor:
    q, keys = cast("tuple[Tensor, Tensor]", inputs[:2])
    # Keys of a width smaller than the queries' have fewer heads, each for a group of the queries'.
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads * keys.shape[-1] // q.shape[-1]}
    context: Tensor = torch.onnx.ops.symbolic("Attention", inputs, attributes, dtype=q.dtype, shape=q.shape, version=24)
    return context


def write(buffer: Tensor, update: Tensor, places: Tensor) -> Tensor:
    """Writes update (slot, beam, dim) into buffer (slot, entry, dim) at its places (slot, beam, 2)."""
    written: Tensor = torch.onnx.ops.symbolic(
        "ScatterND", (buffer, places, update), dtype=buffer.dtype, shape=buffer.shape, version=18
    )
    return written
