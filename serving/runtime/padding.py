"""Filling arrays of a fixed size from smaller values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.step import Ints


def fill(target: NDArray[np.generic], values: NDArray[np.generic], padding: float) -> None:
    """Copy ``values`` into the first rows of ``target``, whose other rows stay. Shapes (row, ...).

    The last axis may be longer, and gets padding, or shorter where the values are padding anyway.
    """
    rows = target[: values.shape[0]]
    width = min(rows.shape[-1], values.shape[-1])
    rows[..., :width] = values[..., :width]
    rows[..., width:] = padding


def fill_rows(target: Ints, rows: Sequence[Ints], padding: int) -> None:
    """Copy rows of their own lengths into ``target`` (row, token); all else becomes padding."""
    target[:] = padding
    for place, row in zip(target, rows, strict=False):
        place[: row.size] = row
