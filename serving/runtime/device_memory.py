"""Memory on a device that stays where it is, and is bound in any shape by its address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, TensorSpec

_ALIGNMENT = 256  # bytes; as cudaMalloc aligns


@dataclass(frozen=True)
class View:
    """A tensor somewhere on a device; whoever holds it keeps what it lies in alive."""

    device: str
    dtype: str
    shape: tuple[int, ...]
    address: int

    def bind_input(self, binding: ort.IOBinding, name: str) -> None:
        """Let a run read it."""
        binding.bind_input(name, self.device, 0, np.dtype(self.dtype).type, self.shape, self.address)

    def bind_output(self, binding: ort.IOBinding, name: str) -> None:
        """Let a run write it."""
        binding.bind_output(name, self.device, 0, np.dtype(self.dtype).type, self.shape, self.address)


class DeviceBlock:
    """Memory for one tensor whose shape changes. It only grows, and then it lies elsewhere."""

    def __init__(self, device: str, dtype: str) -> None:
        self._device, self._dtype, self._size = device, dtype, 0
        self._value: ort.OrtValue | None = None

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return self._size * np.dtype(self._dtype).itemsize

    def reserve(self, shape: tuple[int, ...]) -> ort.OrtValue | None:
        """Make room for a shape; new memory is 0.

        Returns:
            What held the old content, if the block lies elsewhere now and there was any: keep it until it is copied.
        """
        if prod(shape) <= self._size:
            return None
        old, self._size = self._value, max(prod(shape), 2 * self._size)  # each move voids every recorded run
        self._value = ort.OrtValue.ortvalue_from_numpy(np.zeros(self._size, dtype=self._dtype), self._device, 0)
        return old

    def view(self, shape: tuple[int, ...], first: int = 0) -> View:
        """Return the block as a tensor of ``shape`` that begins after ``first`` elements; reserve it before."""
        if self._value is None:
            raise ValueError("a view of a block without memory: reserve some first")
        return View(self._device, self._dtype, shape, self._value.data_ptr() + first * np.dtype(self._dtype).itemsize)


class Packed:
    """Several small tensors in one piece of memory, with a mirror on the host: one copy moves all of them.

    Attributes:
        host: The mirror's tensors by name.
    """

    def __init__(self, device: str, specs: Sequence[TensorSpec], sizes: Mapping[Axis, int]) -> None:
        """Lay out tensors of given sizes."""
        self._device = device
        self._layout: dict[str, tuple[int, str, tuple[int, ...]]] = {}  # first byte, dtype, shape
        size = 0
        for spec in specs:
            shape = spec.shape(sizes)
            self._layout[spec.name] = size, spec.dtype, shape
            size += -(-prod(shape) * np.dtype(spec.dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        self._mirror = np.zeros(max(size, _ALIGNMENT), dtype=np.uint8)
        self._value = ort.OrtValue.ortvalue_from_numpy(self._mirror.copy(), device, 0)
        self.host = self._tensors(self._mirror)

    def bind_inputs(self, binding: ort.IOBinding) -> None:
        """Let a run read every tensor under its name."""
        for name in self._layout:
            self._view(name).bind_input(binding, name)

    def bind_outputs(self, binding: ort.IOBinding) -> None:
        """Let a run write every tensor under its name."""
        for name in self._layout:
            self._view(name).bind_output(binding, name)

    def _view(self, name: str) -> View:
        first, dtype, shape = self._layout[name]
        return View(self._device, dtype, shape, self._value.data_ptr() + first)

    def upload(self) -> None:
        """Copy the mirror to the device."""
        self._value.update_inplace(self._mirror)

    def download(self) -> dict[str, NDArray[Any]]:
        """Return the tensors by name, as they are on the device now."""
        return self._tensors(self._value.numpy())

    def _tensors(self, block: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return {
            name: block[first : first + prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
            for name, (first, dtype, shape) in self._layout.items()
        }
