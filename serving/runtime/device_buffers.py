"""Memory and state of a grid on a device: filled, moved and widened there, never by way of the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from serving.runtime.device_memory import DeviceBlock, View
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.slot_graphs import Kind, slot_session
from serving.step import Ints

_on_host = ort.OrtValue.ortvalue_from_numpy  # shares the memory


class DeviceBuffers:
    """A block for each tensor of memory and state. Shape (slot, ...); slots are the outermost axis."""

    def __init__(self, model: LoadedModel, beam: int, windows: Mapping[Axis, int]) -> None:
        """Allocate for ``beam`` hypotheses of a slot, with sizes of the other named axes."""
        self._specs, self._device, self._beam = model.tensors, model.device, beam
        self._blocks = {spec.name: DeviceBlock(self._device, spec.dtype) for spec in self._specs}
        self._shapes = {spec.name: self._shape(spec, windows) for spec in self._specs}
        for name, shape in self._shapes.items():
            self._blocks[name].reserve(shape)
        zeros = {spec.dtype: np.zeros(1, dtype=spec.dtype) for spec in self._specs}
        self._zeros = {dtype: ort.OrtValue.ortvalue_from_numpy(zero, self._device, 0) for dtype, zero in zeros.items()}

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return sum(block.nbytes for block in self._blocks.values())

    def _shape(self, spec: TensorSpec, windows: Mapping[Axis, int]) -> tuple[int, ...]:
        return spec.shape({Axis.BEAM: self._beam, **windows})

    def resize(self, axis: Axis, windows: Mapping[Axis, int], busy: int) -> bool:
        """Change an axis as :meth:`HostBuffers.resize` does."""
        specs = [spec for spec in self._specs if axis in spec.axes]
        inputs, outputs, old = [], [], []
        for spec in specs:
            block, before, after = self._blocks[spec.name], self._shapes[spec.name], self._shape(spec, windows)
            source = block.view((busy, *before[1:]))
            old.append(block.reserve(after))  # kept until the content is in its new place
            self._shapes[spec.name] = after
            inputs.append(source)
            outputs.append(block.view((busy, *after[1:])))
        if busy:
            self._fit(inputs, outputs)
        return any(value is not None for value in old)

    def admit(self, first: int, count: int, encoded: Mapping[str, View]) -> None:
        """Fill ``count`` slots from ``first`` on with what sentences start from; ``encoded`` shapes (source, ...)."""
        memory = [spec for spec in self._specs if not isinstance(spec, StateSpec)]
        sources = [_first(encoded[spec.name], count) for spec in memory]
        self._fit(sources, [self._range(spec, first, count) for spec in memory])
        states = [spec for spec in self._specs if isinstance(spec, StateSpec)]
        targets = [self._range(spec, first, count) for spec in states]
        shapes = [{"shape": _on_host(np.array(target.shape, dtype=np.int64))} for target in targets]
        self._run("fill", [self._start(spec, count, encoded) for spec in states], targets, shapes)

    def keep(self, order: Ints) -> None:
        """Move slots: slot i gets what slot ``order[i]`` held. Some move. Shape (kept slot,), int64."""
        moved = np.flatnonzero(order != np.arange(order.size))
        first, end = int(moved[0]), int(moved[-1]) + 1
        inputs = [self._blocks[spec.name].view(self._shapes[spec.name]) for spec in self._specs]
        outputs = [self._range(spec, first, end - first) for spec in self._specs]
        index = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(order[first:end]), self._device, 0)
        self._run("keep", inputs, outputs, [{"order": index}] * len(inputs))

    def bind(self, binding: ort.IOBinding, slots: int) -> None:
        """Bind the first ``slots`` slots; state as input and, updated in place, as output."""
        for spec in self._specs:
            view = self._range(spec, 0, slots)
            if isinstance(spec, StateSpec):
                view.bind_input(binding, spec.past)
                view.bind_output(binding, spec.present)
            else:
                view.bind_input(binding, spec.name)

    def _range(self, spec: TensorSpec, first: int, count: int) -> View:
        shape = self._shapes[spec.name][1:]
        return self._blocks[spec.name].view((count, *shape), first * int(np.prod(shape)))

    def _start(self, spec: StateSpec, count: int, encoded: Mapping[str, View]) -> View:
        """Return what a new slot's state is repeated from: the encoder's, once for all beams, or a zero."""
        if spec.initial is None:
            zero = self._zeros[spec.dtype]
            return View(self._device, spec.dtype, (1,) * len(spec.axes), zero.data_ptr())
        alike, axis = _first(encoded[spec.initial], count), spec.axes.index(Axis.BEAM)
        return View(alike.device, alike.dtype, (*alike.shape[:axis], 1, *alike.shape[axis:]), alike.address)

    def _fit(self, inputs: Sequence[View], outputs: Sequence[View]) -> None:
        """Copy tensors into places of other sizes: cut where these are smaller, followed by zeros where larger."""
        others = []
        for source, target in zip(inputs, outputs, strict=True):
            kept = np.minimum(source.shape, target.shape).astype(np.int64)
            none, added = np.zeros_like(kept), np.array(target.shape, dtype=np.int64) - kept
            bounds = {"starts": none, "ends": kept, "pads": np.concatenate([none, added])}
            others.append({name: _on_host(bound) for name, bound in bounds.items()})
        self._run("fit", inputs, outputs, others)

    def _run(
        self, kind: Kind, xs: Sequence[View], ys: Sequence[View], others: Sequence[Mapping[str, ort.OrtValue]]
    ) -> None:
        """Run a slot graph: x, y and the other inputs of each tensor."""
        if not xs:
            return
        session = slot_session(kind, tuple(x.dtype for x in xs), self._device)
        binding = session.io_binding()
        for number, (x, y, other) in enumerate(zip(xs, ys, others, strict=True)):
            x.bind_input(binding, f"x_{number:02}")
            y.bind_output(binding, f"y_{number:02}")
            for name, value in other.items():
                binding.bind_ortvalue_input(f"{name}_{number:02}", value)
        session.run_with_iobinding(binding)


def _first(view: View, count: int) -> View:
    return View(view.device, view.dtype, (count, *view.shape[1:]), view.address)
