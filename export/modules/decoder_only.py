"""A decoder-only model as a module over prefixes and a one-step module over slots x beams.

The prefix is the source: its keys and values of every layer are the memory, computed once and shared by the beams. A
step joins them with the slot's cache, for one softmax over both. That copies them, layer by layer: the price of graphs
made of standard operators, none of which attends to keys that lie in two places.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from export.modules.candidates import StepInputs
from export.modules.transformer import attend, attend_within, most_attended, write
from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from training.models.decoder_only import DecoderOnly

_NEVER = torch.finfo(torch.float32).min


class DecoderOnlyPrefix(nn.Module):
    """Source ids to every layer's keys and values."""

    def __init__(self, model: DecoderOnly) -> None:
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Keys and values of each layer."""
        return tuple(
            spec.model_copy(update={"axes": (Axis.SOURCE, *spec.axes[1:])}) for spec in memory_specs(self.model)
        )

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Shapes (source, src) and (source,) to 2 * layer tensors (source, src, dim)."""
        settings, size = self.model.settings, source.shape[1]
        mask = torch.where(self.model.prefix_mask(lengths, size), 0.0, _NEVER)
        within = partial(attend, mask=mask, heads=settings.heads)
        if settings.prefix == "bidirectional":
            within = partial(attend_within, lengths=lengths, heads=settings.heads)
        memory: list[Tensor] = []

        def remember(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            memory.extend((k, v))
            return within(q, k, v)

        self.model.read(source, [remember] * settings.layers)
        return tuple(memory)


class DecoderOnlyStep(nn.Module):
    """One step of all slots and beams.

    Alignment is the source position that one declared head of one declared layer attends to most.
    """

    def __init__(self, model: DecoderOnly, alignment_layer: int = -1, alignment_head: int = 0) -> None:
        super().__init__()
        self.model = model
        self.alignment_layer = alignment_layer % model.settings.layers
        self.alignment_head = alignment_head

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """What it reads of each source."""
        return memory_specs(self.model)

    @property
    def state(self) -> tuple[StateSpec, ...]:
        """Keys and values of the target in each layer."""
        axes = (Axis.SLOT, Axis.ENTRY, self.model.settings.kv_dim)
        return tuple(
            StateSpec(name=f"self_{kind}_{n}", dtype="float32", axes=axes)
            for n in range(self.model.settings.layers)
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
        model, heads = self.model, self.model.settings.heads
        present: list[Tensor] = []
        aligned: list[Tensor] = []
        positions = (lengths + step.positions).unsqueeze(1)
        real = torch.arange(memory[0].shape[1]) < lengths[:, None, None, None]
        in_source = torch.where(real, 0.0, _NEVER).expand(-1, 1, step.tokens.shape[1], -1)
        mask = torch.cat([in_source, step.mask], dim=3)
        x, rotate = model.embed(model.target_embedding(step.tokens), positions), model.positions.rotation(positions)
        for number, layer in enumerate(model.layers):
            source, held = memory[2 * number : 2 * number + 2], past[2 * number : 2 * number + 2]

            def attend_both(
                q: Tensor,
                k: Tensor,
                v: Tensor,
                source: list[Tensor] = source,
                held: list[Tensor] = held,
                number: int = number,
            ) -> Tensor:
                written = [write(buffer, update, step.places) for buffer, update in zip(held, (k, v), strict=True)]
                present.extend(written)
                if number == self.alignment_layer:
                    aligned.append(most_attended(q, source[0], lengths, heads=heads, head=self.alignment_head))
                keys, values = (torch.cat(parts, dim=1) for parts in zip(source, written, strict=True))
                return attend(q, keys, values, mask, heads=heads)

            x = layer(x, rotate, attend_both)
        return model.project_vocab(model.finish(x)), aligned[0], present


def memory_specs(model: DecoderOnly) -> tuple[TensorSpec, ...]:
    """Keys and values of the source in each layer."""
    axes = (Axis.SLOT, Axis.SRC, model.settings.kv_dim)
    return tuple(
        TensorSpec(name=f"source_{kind}_{n}", dtype="float32", axes=axes)
        for n in range(model.settings.layers)
        for kind in ("keys", "values")
    )
