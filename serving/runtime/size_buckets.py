"""Size buckets for tensors, few enough that bindings and captured graphs come back, and the padding they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_WINDOW = 8  # positions
# Tokens. ONNX Runtime sums fp32 products in another order where a thread has 64 columns or fewer: with this many at
# least, that needs 8 threads. Products of integers are exact in any order.
SMALLEST_SHORTLIST = 512


def bucket(size: int) -> int:
    """Return the smallest bucket for ``size`` positions: multiples of 8, from 32 on about a quarter apart."""
    step = max(SMALLEST_WINDOW, 1 << (size - 1).bit_length() >> 2)
    return -(-size // step) * step


def power_of_two(size: int) -> int:
    """Return the smallest power of two that is no less than ``size``, which is at least 1."""
    return 1 << (size - 1).bit_length()


def fitting(current: int, needed: int) -> int:
    """Return the window for ``needed`` positions: a larger one at once, a smaller one only if it saves a quarter.

    Each change copies the buffers; what is too large costs only attention to positions that are masked.
    """
    wanted = bucket(needed)
    return wanted if wanted > current or wanted * 4 <= current * 3 else current


def doubling(current: int, needed: int) -> int:
    """Return a window as ``fitting`` does, in powers of two, and smaller only to a quarter: each is recorded anew."""
    wanted = max(SMALLEST_WINDOW, power_of_two(needed))
    return wanted if wanted > current or wanted * 4 <= current else current


def fill(target: NDArray[np.generic], values: NDArray[np.generic], padding: float) -> None:
    """Copy ``values`` into the first rows of ``target``, whose other rows stay. Shapes (row, ...).

    The last axis may be longer, and gets padding, or shorter where the values are padding anyway.
    """
    rows = target[: values.shape[0]]
    width = min(rows.shape[-1], values.shape[-1])
    rows[..., :width] = values[..., :width]
    rows[..., width:] = padding


def fill_rows(target: NDArray[Any], rows: Sequence[NDArray[Any]], padding: int) -> None:
    """Copy rows of their own lengths into ``target`` (row, token); all else becomes padding."""
    target[:] = padding
    for place, row in zip(target, rows, strict=False):
        place[: row.size] = row
