"""Positions of tokens: a vector added to its embedding, or a rotation of its queries and keys.

Both kinds are asked the same two things, so that a model need not know which one it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

PositionKind = Literal["sinusoidal", "tensor2tensor", "learned", "rotary"]
Rotation = Callable[[Tensor], Tensor]


def sinusoidal_table(count: int, dim: int, *, slowest: bool = False) -> Tensor:
    """Build the fixed table of Vaswani et al. (2017), section 3.5.

    Column i of the first half is sin(p / 10000^(2i/dim)), and of the second half its cosine. The paper interleaves the
    two, which only permutes dimensions.

    Args:
        count: Number of positions.
        dim: Width of a vector.
        slowest: Whether the slowest rate is 1/10000 itself, as in tensor2tensor, the paper's code, and in Marian; by
            the paper's formula it is the one after the last.

    Returns:
        Shape (position, dim), float32.
    """
    half = (dim + 1) // 2
    steps = max(half - 1, 1) if slowest else dim / 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / steps))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()[:, : dim - half]], dim=1).float()


class Positions(nn.Module):
    """Base: positions that change nothing."""

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Mark token embeddings, shape (row, time, dim), by positions broadcastable to (row, time), int64."""
        return embedded

    def rotation(self, positions: Tensor) -> Rotation:
        """Return the rotation of queries and keys (row, time, dim) at positions broadcastable to (row, time)."""
        return lambda x: x


class PositionEmbedding(Positions):
    """A table of position vectors, fixed (sinusoids) or learned, that are added to the embeddings.

    Args:
        count: Number of positions.
        dim: Width of a vector.
        kind: ``learned``, or else a constant buffer; with ``tensor2tensor`` the slowest rate is 1/10000.
        offset: Rows to skip before position 0 (BART reserves 2).
    """

    def __init__(self, count: int, dim: int, *, kind: PositionKind = "sinusoidal", offset: int = 0) -> None:
        super().__init__()
        self.offset = offset
        if kind == "learned":
            self.weight = nn.Parameter(torch.empty(count + offset, dim).normal_(std=dim**-0.5))
        else:
            # A fixed table is recomputed from the config, so it need not travel in checkpoints.
            table = sinusoidal_table(count + offset, dim, slowest=kind == "tensor2tensor")
            self.register_buffer("weight", table, persistent=False)

    def add(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """Add position vectors to shape (row, time, dim); positions are broadcastable to (row, time), int64."""
        return embedded + nn.functional.embedding(positions + self.offset, self.weight)


class RotaryEmbedding(Positions):
    """Rotation of queries and keys by angles that grow with the position (Su et al. 2021, RoPE).

    Dimensions i and i + head_dim/2 of a head are one plane, turned by p / 10000^(2i/head_dim), so that the product of a
    query and a key depends on their distance alone. (The paper pairs neighbours, which only permutes dimensions.)

    Args:
        count: Number of positions.
        head_dim: Width of a head, even.
    """

    def __init__(self, count: int, head_dim: int) -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", sinusoidal_table(count, head_dim), persistent=False)

    def rotation(self, positions: Tensor) -> Rotation:
        """Return the rotation of heads side by side (row, time, dim) at positions broadcastable to (row, time)."""
        half = self.table.shape[1] // 2
        sin, cos = self.table[positions][:, :, None, None].split(half, dim=-1)  # (row, time, 1, 1, half)
        sin = torch.cat([-sin, sin], dim=-2)

        def rotate(x: Tensor) -> Tensor:
            planes = x.unflatten(-1, (-1, 2, half))  # (row, time, head, 2, half)
            turned: Tensor = planes * cos + planes.flip(-2) * sin
            return turned.flatten(-3).type_as(x)

        return rotate
