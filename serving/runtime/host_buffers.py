"""Slot-major tensors that stay where they are: memory and state of a grid.

Slots are the outermost axis, so the busy ones are a prefix that binds by address, without a copy.
"""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.step import Ints


class SlotBuffer(Protocol):
    """One tensor of a grid. Shape (slot, ...)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape now."""
        ...

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        ...

    def resize(self, shape: tuple[int, ...], slots: int) -> bool:
        """Changes the shape; the first ``slots`` slots keep what fits of them, and what is new in them is 0.

        Returns:
            Whether the buffer lies elsewhere now, so that bindings to it are void.
        """
        ...

    def bind(self, binding: ort.IOBinding, slots: int, past: str, present: str | None) -> None:
        """Binds the first ``slots`` slots as input ``past`` and, for state updated in place, as output ``present``."""
        ...

    def write(self, first: int, values: NDArray[np.generic]) -> None:
        """Places ``values`` (slot, ...) from slot ``first`` on; axes may be shorter, the rest is 0."""
        ...

    def move(self, sources: Ints, targets: Ints) -> None:
        """Copies slots ``sources`` over slots ``targets``. Shapes (move,), int64."""
        ...


class HostBuffer:
    """A buffer in main memory. Shapes that come back cost no allocation: smaller ones are views of the largest."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._block = _zeros(prod(shape), dtype)
        self._array = self._block.reshape(shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape now."""
        return tuple(self._array.shape)

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return self._block.nbytes

    def resize(self, shape: tuple[int, ...], slots: int) -> bool:
        """See :class:`SlotBuffer`."""
        keep = (slice(slots), *(slice(min(a, b)) for a, b in zip(self.shape[1:], shape[1:], strict=True)))
        elsewhere = prod(shape) > self._block.size
        held = self._array[keep] if elsewhere else self._array[keep].copy()
        if elsewhere:
            self._block = _zeros(prod(shape), self._block.dtype)
        self._array = self._block[: prod(shape)].reshape(shape)
        self._array[:slots] = 0
        self._array[keep] = held
        return elsewhere

    def bind(self, binding: ort.IOBinding, slots: int, past: str, present: str | None) -> None:
        """See :class:`SlotBuffer`."""
        value = ort.OrtValue.ortvalue_from_numpy(self._array[:slots])  # shares the memory
        binding.bind_ortvalue_input(past, value)
        if present is not None:
            binding.bind_ortvalue_output(present, value)

    def write(self, first: int, values: NDArray[np.generic]) -> None:
        """See :class:`SlotBuffer`."""
        place = self._array[first : first + values.shape[0]]
        if place.shape != values.shape:
            place[...] = 0
        place[tuple(slice(size) for size in values.shape)] = values

    def move(self, sources: Ints, targets: Ints) -> None:
        """See :class:`SlotBuffer`."""
        self._array[targets] = self._array[sources]


def _zeros(size: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Zeros that are written: pages that the system would hand out later do not let memory grow for hours."""
    block = np.empty(size, dtype=dtype)
    block.fill(0)
    return block
