"""A Transformer as an encoder module and a one-step decoder module over slots x beams.

A layer's self-attention state is a static buffer (slot, entry, dim), written in place where the cache's bookkeeping
says (``serving.runtime.cache_table``); the beams attend as queries under its mask, which admits each beam's own
ancestors only, so reordering beams moves no state. A recurrence has a state (slot, beam, dim) instead, which is small
and follows the beams' parents. Cross-attention keys and values are computed once per source and never replicated over
beams.
"""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor

from export.modules.attention import EncoderAttention, GraphAttention
from export.modules.contract import Attended, FamilyDecoder, FamilyEncoder, StepInputs, encoder_outputs
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.ssru import Ssru
from training.models.transformer import Transformer
from training.models.transformer_attention import MultiHeadAttention
from training.models.transformer_base import TransformerBase


class TransformerEncoder(FamilyEncoder):
    """Source ids to every decoder layer's cross-attention keys and values."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Keys and values of each decoder layer: the decoder's memory."""
        return encoder_outputs(memory_specs(self.model, TransformerDecoder.memory_name))

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Encode shapes (source, src) and (source,) to 2 * layer tensors (source, src, kv_dim)."""
        states = self.model.encode_states(source, lengths, EncoderAttention(self.model.settings.heads, lengths))
        return tuple(x for layer in self.model.source_attention for x in layer.project_keys_values(states))


class TransformerDecoder(FamilyDecoder):
    """One decoder step of all slots and beams.

    Attention is that of one declared head of one declared layer, over the source alone.

    Attributes:
        attention: How a layer attends.
        memory_name: Start of the names of keys and values of the source.
    """

    attention: ClassVar[type[GraphAttention]] = GraphAttention
    memory_name: ClassVar[str] = "cross"

    def __init__(self, model: TransformerBase, alignment_layer: int = -1, alignment_head: int = 0) -> None:
        super().__init__()
        self.model = model
        self.alignment_layer = alignment_layer % len(model.target_layers)
        self.alignment_head = alignment_head

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """Keys and values of the source in each layer."""
        return memory_specs(self.model, self.memory_name)

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """Keys and values of the target in each layer, or the state of its recurrence."""
        readers = enumerate(layer.target_reader for layer in self.model.target_layers)
        return tuple(spec for number, reader in readers for spec in _state_specs(reader, number))

    @property
    def has_attention(self) -> bool:
        """Always."""
        return True

    def forward(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Attended, list[Tensor]]:
        """Run the step, from memory (slot, src, kv_dim) and the layers' states; see the base class."""
        positions, mask = self._positions(step, lengths), self._mask(step, lengths, memory[0].shape[1])
        own = len(past) // len(self.model.target_layers)
        layers = [
            self.attention(
                heads=self.model.settings.heads,
                lengths=lengths,
                memory=memory[2 * n : 2 * n + 2],
                past=past[own * n : own * (n + 1)],
                parents=step.parents,
                places=step.places,
                mask=mask,
                aligning=self.alignment_head if n == self.alignment_layer else None,
            )
            for n in range(len(self.model.target_layers))
        ]
        logits = self.model.project_vocab(self.model.decode(step.tokens, positions, layers))
        attended = cast("Attended", layers[self.alignment_layer].attended)
        return logits, attended, [buffer for layer in layers for buffer in layer.present]

    def _positions(self, step: StepInputs, lengths: Tensor) -> Tensor:
        """Return the positions of the step's tokens, shape (slot, 1)."""
        return step.positions.unsqueeze(1)

    def _mask(self, step: StepInputs, lengths: Tensor, src: int) -> Tensor:
        """Return the mask of what a layer's self-attention sees, as ``attention`` wants it."""
        return step.mask


def _state_specs(reader: MultiHeadAttention | Ssru, number: int) -> tuple[StateSpec, ...]:
    if isinstance(reader, Ssru):
        axes = (Axis.SLOT, Axis.BEAM, reader.value.out_features)
        return (StateSpec(name=f"ssru_{number}", dtype="float32", axes=axes),)
    return tuple(
        StateSpec(name=f"self_{kind}_{number}", dtype="float32", axes=(Axis.SLOT, Axis.ENTRY, reader.kv_dim))
        for kind in ("keys", "values")
    )


def memory_specs(model: TransformerBase, name: str) -> tuple[TensorSpec, ...]:
    """Declare the keys and values of the source in each layer, under names that start with ``name``."""
    return tuple(
        TensorSpec(name=f"{name}_{kind}_{n}", dtype="float32", axes=(Axis.SLOT, Axis.SRC, attention.kv_dim))
        for n, attention in enumerate(model.source_attention)
        for kind in ("keys", "values")
    )
