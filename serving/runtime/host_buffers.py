"""Memory and state of a grid in main memory.

Slots are the outermost axis, so the busy ones are a prefix that binds by address, without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from serving.step import Ints


class HostBuffers:
    """An array for each tensor of memory and state, shape (slot, ...).

    Shapes that come back cost no allocation: an array is a view of a block that was once large enough.

    Attributes:
        arrays: By name.
        nbytes: Allocated bytes.
    """

    def __init__(self, specs: Sequence[TensorSpec], beam: int, windows: Mapping[Axis, int]) -> None:
        """Allocate for ``beam`` hypotheses of a slot, with sizes of the other named axes."""
        self._specs, self._beam = specs, beam
        shapes = {spec.name: spec.shape({Axis.BEAM: beam, **windows}) for spec in specs}
        self._blocks = {spec.name: _zeros(prod(shapes[spec.name]), np.dtype(spec.dtype)) for spec in specs}
        self.arrays = {name: block.reshape(shapes[name]) for name, block in self._blocks.items()}
        self.nbytes = sum(block.nbytes for block in self._blocks.values())

    def resize(self, axis: Axis, windows: Mapping[Axis, int], busy: int) -> bool:
        """Change an axis to its size in ``windows``; busy slots keep what fits, and what is new in them is 0.

        Returns:
            Whether an array lies elsewhere now, so that bindings to it are void.
        """
        changed = [spec for spec in self._specs if axis in spec.axes]
        moved = [self._reshape(spec.name, spec.shape({Axis.BEAM: self._beam, **windows}), busy) for spec in changed]
        return any(moved)

    def _reshape(self, name: str, shape: tuple[int, ...], busy: int) -> bool:
        array, block = self.arrays[name], self._blocks[name]
        kept = (slice(busy), *(slice(min(a, b)) for a, b in zip(array.shape[1:], shape[1:], strict=True)))
        grows = prod(shape) > block.size
        held = array[kept] if grows else array[kept].copy()  # in one block, the old and the new layout overlap
        if grows:
            self.nbytes -= block.nbytes
            block = self._blocks[name] = _zeros(prod(shape), block.dtype)
            self.nbytes += block.nbytes
        array = self.arrays[name] = block[: prod(shape)].reshape(shape)
        if any(size > held_size for size, held_size in zip(shape[1:], held.shape[1:], strict=True)):
            array[:busy] = 0
        array[kept] = held
        return grows

    def admit(self, first: int, count: int, encoded: Mapping[str, NDArray[np.generic]]) -> None:
        """Fill ``count`` slots from ``first`` on with what sentences start from; axes may be shorter, the rest is 0.

        Args:
            first: The first slot.
            count: How many.
            encoded: The encoder's outputs by name, shape (source, ...).
        """
        for spec in self._specs:
            place, values = self.arrays[spec.name][first : first + count], self._start(spec, count, encoded)
            if place.shape != values.shape:
                place[...] = 0
            place[tuple(slice(size) for size in values.shape)] = values

    def _start(self, spec: TensorSpec, count: int, encoded: Mapping[str, NDArray[np.generic]]) -> NDArray[np.generic]:
        """Return what new slots hold. Zeroed caches keep a broken predecessor (NaN) out of masked positions."""
        if not isinstance(spec, StateSpec):
            return encoded[spec.name]
        if spec.initial is None:
            return np.zeros((count, *(0 for _ in spec.axes[1:])), dtype=np.dtype(spec.dtype))
        axis = spec.axes.index(Axis.BEAM)
        return np.repeat(np.expand_dims(encoded[spec.initial], axis), self._beam, axis=axis)

    def keep(self, order: Ints) -> None:
        """Move slots: slot i gets what slot ``order[i]`` held. Shape (kept slot,), int64."""
        targets = np.flatnonzero(order != np.arange(order.size))
        for array in self.arrays.values():
            array[targets] = array[order[targets]]

    def bind(self, binding: ort.IOBinding, slots: int) -> None:
        """Bind the first ``slots`` slots; state as input and, updated in place, as output."""
        for spec in self._specs:
            value = ort.OrtValue.ortvalue_from_numpy(self.arrays[spec.name][:slots])  # shares the memory
            if isinstance(spec, StateSpec):
                binding.bind_ortvalue_input(spec.past, value)
                binding.bind_ortvalue_output(spec.present, value)
            else:
                binding.bind_ortvalue_input(spec.name, value)


def _zeros(size: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Zeros that are written: pages that the system would hand out later do not let memory grow for hours."""
    block = np.empty(size, dtype=dtype)
    block.fill(0)
    return block
