"""A decoder-only model as a module over prefixes and a one-step module over slots x beams.

The prefix is the source: its keys and values of every layer are the memory, computed once and shared by the beams.
"""

from __future__ import annotations

import torch
from torch import Tensor

from export.modules.attention import EncoderAttention, GraphPrefixAttention
from export.modules.contract import FamilyEncoder, StepInputs, encoder_outputs
from export.modules.transformer import TransformerDecoder, memory_specs
from serving.bundle.manifest import TensorSpec
from training.models.decoder_only import DecoderOnly

_NEVER = torch.finfo(torch.float32).min


class DecoderOnlyPrefix(FamilyEncoder):
    """Source ids to every layer's keys and values."""

    def __init__(self, model: DecoderOnly) -> None:
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Keys and values of each layer."""
        return encoder_outputs(memory_specs(self.model, DecoderOnlyStep.memory_name))

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Read shapes (source, src) and (source,) to 2 * layer tensors (source, src, kv_dim)."""
        attention = EncoderAttention(self.model.settings.heads, lengths)
        if self.model.settings.prefix == "causal":
            attention.mask = torch.where(self.model.prefix_mask(lengths, source.shape[1]), 0.0, _NEVER)
        return tuple(x for layer in self.model.read(source, attention) for x in layer)


class DecoderOnlyStep(TransformerDecoder):
    """One step of all slots and beams, which attends to the source and the target so far at once."""

    attention = GraphPrefixAttention
    memory_name = "source"

    def _positions(self, step: StepInputs, lengths: Tensor) -> Tensor:
        return (lengths + step.positions).unsqueeze(1)

    def _mask(self, step: StepInputs, lengths: Tensor, src: int) -> Tensor:
        real = torch.arange(src) < lengths[:, None, None, None]
        in_source = torch.where(real, 0.0, _NEVER).expand(-1, 1, step.tokens.shape[1], -1)
        return torch.cat([in_source, step.mask], dim=3)
