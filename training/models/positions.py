"""Where a token stands: sinusoidal and learned position embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal_table(count: int, dim: int) -> Tensor:
    """Build the fixed table of Vaswani et al. (2017), section 3.5.

    Column i of the first half is sin(p / 10000^(2i/dim)), and of the second half its cosine: the layout of
    tensor2tensor and Marian. The paper interleaves the two, which only permutes dimensions.

    Returns:
        Shape (position, dim), float32.
    """
    half = (dim + 1) // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-2.0 * math.log(10000.0) / dim))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()[:, : dim - half]], dim=1).float()


class PositionEmbedding(nn.Module):
    """A table of position vectors, fixed (sinusoidal) or learned.

    Args:
        count: Number of positions.
        dim: Width of a vector.
        learned: Train the table; otherwise it is a constant buffer.
        offset: Rows to skip before position 0 (BART reserves 2).
    """

    def __init__(self, count: int, dim: int, *, learned: bool, offset: int = 0) -> None:
        super().__init__()
        self.offset = offset
        if learned:
            self.weight = nn.Parameter(torch.empty(count + offset, dim).normal_(std=dim**-0.5))
        else:
            # A fixed table is recomputed from the config, so it need not travel in checkpoints.
            self.register_buffer("weight", sinusoidal_table(count + offset, dim), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Look up positions of shape (...), int64; returns shape (..., dim)."""
        return nn.functional.embedding(positions + self.offset, self.weight)
