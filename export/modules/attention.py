"""Attention of Transformers in graphs, as ONNX operators; what PyTorch computes meanwhile are zeros of their shape.

The heads stay side by side in ``dim``, as the projections give them: ONNX's Attention takes them apart, so nothing is
transposed. Heads that share keys and values are laid out as queries of one head, so that what they share is read once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from export.modules.contract import Attended
from training.models.ssru import carry_one


@dataclass
class EncoderAttention:
    """Attention of sources to themselves.

    Attributes:
        heads: Number of heads of queries.
        lengths: Source lengths. Shape (source,), int64.
        mask: Shape (source, 1, src, src), added to the scores; without one, a source attends to all of its tokens.
    """

    heads: int
    lengths: Tensor
    mask: Tensor | None = None

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to the source; all of shape (source, src, dim)."""
        if self.mask is None:
            return attend_to_first(q, k, v, self.lengths, heads=self.heads)
        return attend(q, k, v, self.mask, heads=self.heads)


@dataclass
class GraphAttention:
    """Surroundings of one decoder layer: what the beams of a slot find in their own ancestors, and in their source.

    Attributes:
        heads: Number of heads of queries.
        lengths: Source lengths. Shape (slot,), int64.
        memory: Keys and values of the source. Shape (slot, src, kv_dim) each.
        past: Buffers of the target's keys and values, shape (slot, entry, kv_dim) each; or the state of a recurrence,
            shape (slot, beam, dim).
        parents: Beam that each hypothesis continues. Shape (slot, beam), int64.
        places: Where the step is written into them. Shape (slot, beam, 2), int64.
        mask: Shape (slot, 1, beam, entry), added to the scores.
        aligning: Head whose attention is told, if this layer has it.
        present: What ``past`` has become, once the layer has run.
        attended: What that head attends to in the source, once the layer has run.
    """

    heads: int
    lengths: Tensor
    memory: list[Tensor]
    past: list[Tensor]
    parents: Tensor
    places: Tensor
    mask: Tensor
    aligning: int | None
    present: list[Tensor] = field(init=False)
    attended: Attended | None = None

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write keys and values (slot, beam, kv_dim) to their places, and attend: (slot, beam, dim) to the same."""
        keys, values = self._write(k, v)
        return attend(q, keys, values, self.mask, heads=self.heads)

    def carry(self, forget: Tensor, x: Tensor) -> Tensor:
        """Add the step to the parents' states, all of shape (slot, beam, dim)."""
        (state,) = self.past
        state = state.gather(1, self.parents.unsqueeze(-1).expand(-1, -1, state.shape[-1]))
        self.present = [carry_one(state, forget, x)]
        return self.present[0]

    def across(self, q: Tensor) -> Tensor:
        """Attend to the source: shape (slot, beam, dim) to the same."""
        self._align(q)
        keys, values = self.memory
        return attend_to_first(q, keys, values, self.lengths, heads=self.heads)

    def _write(self, k: Tensor, v: Tensor) -> list[Tensor]:
        self.present = [write(buffer, new, self.places) for buffer, new in zip(self.past, (k, v), strict=True)]
        return self.present

    def _align(self, q: Tensor) -> None:
        if self.aligning is not None:
            self.attended = attended_by(q, self.memory[0], self.lengths, heads=self.heads, head=self.aligning)


class GraphPrefixAttention(GraphAttention):
    """Attention of one layer of a decoder-only model: to the source and the ancestors in one softmax.

    It copies both, layer by layer: the price of graphs made of standard operators, none of which attends to keys that
    lie in two places. The mask is over both, shape (slot, 1, beam, src + entry).
    """

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write keys and values (slot, beam, kv_dim) to their places, and attend: (slot, beam, dim) to the same."""
        written = self._write(k, v)
        self._align(q)
        keys, values = (torch.cat(parts, dim=1) for parts in zip(self.memory, written, strict=True))
        return attend(q, keys, values, self.mask, heads=self.heads)


def attended_by(q: Tensor, keys: Tensor, lengths: Tensor, *, heads: int, head: int) -> Attended:
    """Compute what one head attends to in the source, as if there were nothing else.

    Args:
        q: Queries. Shape (slot, beam, dim).
        keys: Shape (slot, src, kv_dim), narrower than the queries if there are fewer heads of keys.
        lengths: Source lengths. Shape (slot,), int64.
        heads: Number of heads of queries.
        head: Which of them.
    """
    size, group = q.shape[-1] // heads, q.shape[-1] // keys.shape[-1]
    query = q.narrow(-1, head * size, size) * size**-0.5
    scores = query @ keys.narrow(-1, head // group * size, size).transpose(1, 2)
    outside = torch.arange(keys.shape[1]) >= lengths.unsqueeze(1)
    scores = scores.masked_fill(outside.unsqueeze(1), -torch.inf)
    most = scores.topk(1).indices.squeeze(-1)  # argmax would need cuDNN on a GPU
    return Attended(most, scores.softmax(-1))


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """Attend with all heads; q (slot, beam, dim), keys, values (slot, entry, kv_dim), mask (slot, 1, beam, entry)."""
    return _attention((q, keys, values, mask), heads)


def attend_to_first(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, *, heads: int) -> Tensor:
    """Attend to the first ``lengths`` (row,) keys of each row; q (row, time, dim), k, v (row, src, kv_dim)."""
    return _attention((q, k, v, None, None, None, lengths), heads)


def _attention(inputs: tuple[Tensor | None, ...], heads: int) -> Tensor:
    q, keys = cast("tuple[Tensor, Tensor]", inputs[:2])
    sharing = q.shape[-1] // keys.shape[-1]  # heads of queries for each one of keys and values
    if sharing > 1:
        mask = inputs[3] if len(inputs) > 3 else None
        own = None if mask is None else mask.repeat_interleave(sharing, dim=2)
        context = _attention((_sharing_as_queries(q, heads, sharing), *inputs[1:3], own, *inputs[4:]), heads // sharing)
        return _queries_as_sharing(context, q, heads, sharing)
    attributes: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": heads}
    found: Tensor = torch.onnx.ops.symbolic("Attention", inputs, attributes, dtype=q.dtype, shape=q.shape, version=24)
    return found


def _sharing_as_queries(q: Tensor, heads: int, sharing: int) -> Tensor:
    """Turn queries (slot, time, dim) into (slot, time * sharing, kv_dim); with one head of keys no number moves."""
    slots, time, dim = q.shape
    if heads == sharing:  # turning an axis of one entry would copy all
        return q.reshape(slots, time * sharing, dim // sharing)
    apart = q.reshape(slots, time, heads // sharing, sharing, dim // heads).transpose(2, 3)
    return apart.reshape(slots, time * sharing, dim // sharing)


def _queries_as_sharing(context: Tensor, q: Tensor, heads: int, sharing: int) -> Tensor:
    """Undo :func:`_sharing_as_queries` for what was attended to by ``q`` (slot, time, dim)."""
    slots, time, dim = q.shape
    if heads == sharing:
        return context.reshape(slots, time, dim)
    apart = context.reshape(slots, time, sharing, heads // sharing, dim // heads).transpose(2, 3)
    return apart.reshape(slots, time, dim)


def write(buffer: Tensor, update: Tensor, places: Tensor) -> Tensor:
    """Write ``update`` (slot, beam, kv_dim) into ``buffer`` (slot, entry, kv_dim) at its places (slot, beam, 2)."""
    written: Tensor = torch.onnx.ops.symbolic(
        "ScatterND", (buffer, places, update), dtype=buffer.dtype, shape=buffer.shape, version=18
    )
    return written
