"""Slot-major tensors that stay where they are: memory and state of a grid.

Slots are the outermost axis, so the busy ones are a prefix that binds by address, without a copy.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.decoding.step import Ints


class SlotBuffer(Protocol):
    """One tensor of a grid. Shape (slot, ...)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Allocated shape."""
        ...

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        ...

    def bind(self, binding: ort.IOBinding, slots: int, past: str, present: str | None) -> None:
        """Binds the first ``slots`` slots as input ``past`` and, for state updated in place, as output ``present``."""
        ...

    def write(self, first: int, values: NDArray[np.generic]) -> None:
        """Places ``values`` (slot, ...) from slot ``first`` on; axes may be shorter, the rest is 0."""
        ...

    def read(self, slots: int) -> NDArray[np.generic]:
        """The first ``slots`` slots on the host, shape (slot, ...); a view where the buffer lives there."""
        ...

    def move(self, sources: Ints, targets: Ints) -> None:
        """Copies slots ``sources`` over slots ``targets``. Shapes (move,), int64."""
        ...


class HostBuffer:
    """A buffer in main memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._array = np.zeros(shape, dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Allocated shape."""
        return tuple(self._array.shape)

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return self._array.nbytes

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

    def read(self, slots: int) -> NDArray[np.generic]:
        """See :class:`SlotBuffer`."""
        return self._array[:slots]

    def move(self, sources: Ints, targets: Ints) -> None:
        """See :class:`SlotBuffer`."""
        self._array[targets] = self._array[sources]


class CudaBuffer:
    """A buffer in GPU memory. Stepping copies nothing; admission, compaction and growth go through the host."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._dtype = dtype
        self._value = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=dtype), "cuda", 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Allocated shape."""
        return tuple(int(size) for size in self._value.shape())

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return int(np.prod(self.shape)) * self._dtype.itemsize

    def bind(self, binding: ort.IOBinding, slots: int, past: str, present: str | None) -> None:
        """See :class:`SlotBuffer`."""
        place = ("cuda", 0, self._dtype.type, (slots, *self.shape[1:]), self._value.data_ptr())
        binding.bind_input(past, *place)
        if present is not None:
            binding.bind_output(present, *place)

    def write(self, first: int, values: NDArray[np.generic]) -> None:
        """See :class:`SlotBuffer`."""
        host = self._value.numpy()
        host[first : first + values.shape[0]] = 0
        host[(slice(first, first + values.shape[0]), *(slice(size) for size in values.shape[1:]))] = values
        self._value.update_inplace(host)

    def read(self, slots: int) -> NDArray[np.generic]:
        """See :class:`SlotBuffer`."""
        copied: NDArray[np.generic] = self._value.numpy()[:slots]
        return copied

    def move(self, sources: Ints, targets: Ints) -> None:
        """See :class:`SlotBuffer`."""
        host = self._value.numpy()
        host[targets] = host[sources]
        self._value.update_inplace(host)


def allocate(device: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> SlotBuffer:
    """Makes a zeroed buffer on ``device`` (``cpu`` or ``cuda``)."""
    return (CudaBuffer if device == "cuda" else HostBuffer)(shape, dtype)
