"""Masks that tell tokens from padding."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Mark the real tokens of padded rows.

    Args:
        lengths: Shape (row,), int64.
        size: Padded length, src.

    Returns:
        Shape (row, src), bool, True at real tokens.
    """
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]
