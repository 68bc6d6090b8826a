"""Memory and state of a grid on a device: filled, moved and widened there, never by way of the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort

from serving.bundle.manifest import Axis, StateSpec, TensorSpec
from serving.runtime.device_memory import DeviceBlock, View
from serving.runtime.session import open_session
from serving.runtime.slot_graphs import fill_graph, fit_graph, keep_graph
from serving.step import Ints


class SlotGraphs:
    """The sessions that treat a model's slot-major tensors; made when first needed, shared by its grids."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._sessions: dict[tuple[object, ...], ort.InferenceSession] = {}

    def fill(self, specs: Sequence[TensorSpec]) -> ort.InferenceSession:
        """See :func:`serving.runtime.slot_graphs.fill_graph`."""
        return self._session("fill", specs, lambda dtypes: fill_graph(dtypes))

    def fit(self, specs: Sequence[TensorSpec]) -> ort.InferenceSession:
        """See :func:`serving.runtime.slot_graphs.fit_graph`."""
        return self._session("fit", specs, lambda dtypes: fit_graph(dtypes, [len(spec.axes) for spec in specs]))

    def keep(self, specs: Sequence[TensorSpec]) -> ort.InferenceSession:
        """See :func:`serving.runtime.slot_graphs.keep_graph`."""
        return self._session("keep", specs, lambda dtypes: keep_graph(dtypes))

    def _session(
        self, kind: str, specs: Sequence[TensorSpec], build: Callable[[list[str]], bytes]
    ) -> ort.InferenceSession:
        key = (kind, *((spec.dtype, len(spec.axes)) for spec in specs))
        if key not in self._sessions:
            graph = build([spec.dtype for spec in specs])
            self._sessions[key] = open_session(graph, device=self.device, threads=1)
        return self._sessions[key]


class DeviceBuffers:
    """One block for each tensor of memory and state. Shape (slot, ...); slots are the outermost axis."""

    def __init__(self, specs: Sequence[TensorSpec], graphs: SlotGraphs, beam: int, windows: Mapping[Axis, int]) -> None:
        """Allocates.

        Args:
            specs: Declarations of memory and state.
            graphs: Of the device.
            beam: Hypotheses a slot.
            windows: Sizes of slot, src and entry.
        """
        self._specs, self._graphs, self._beam = tuple(specs), graphs, beam
        self._blocks = {spec.name: DeviceBlock(graphs.device, spec.dtype) for spec in specs}
        self._shapes = {spec.name: self._shape(spec, windows) for spec in specs}
        for name, shape in self._shapes.items():
            self._blocks[name].reserve(shape)
        zeros = {spec.dtype: np.zeros(1, dtype=spec.dtype) for spec in specs}
        self._zeros = {dtype: ort.OrtValue.ortvalue_from_numpy(zero, graphs.device, 0) for dtype, zero in zeros.items()}

    @property
    def nbytes(self) -> int:
        """Allocated bytes."""
        return sum(block.nbytes for block in self._blocks.values())

    def _shape(self, spec: TensorSpec, windows: Mapping[Axis, int]) -> tuple[int, ...]:
        return spec.shape({Axis.BEAM: self._beam, **windows})

    def resize(self, axis: Axis, windows: Mapping[Axis, int], busy: int) -> bool:
        """Changes an axis to the size it has in ``windows``; busy slots keep what fits, and what is new in them is 0.

        Returns:
            Whether a block lies elsewhere now, so that bindings to it are void.
        """
        specs = [spec for spec in self._specs if axis in spec.axes]
        inputs, outputs, old = [], [], []
        for spec in specs:
            block, before, after = self._blocks[spec.name], self._shapes[spec.name], self._shape(spec, windows)
            source = block.view((busy, *before[1:]))
            old.append(block.reserve(after))
            self._shapes[spec.name] = after
            inputs.append(source)
            outputs.append(block.view((busy, *after[1:])))
        if busy:
            self._fit(specs, inputs, outputs)
        return any(value is not None for value in old)

    def admit(self, first: int, count: int, encoded: Mapping[str, View]) -> None:
        """Fills ``count`` slots from ``first`` on: memory with what was encoded, state with what it starts from.

        Args:
            first: The first slot.
            count: How many.
            encoded: The encoder's outputs by name, shape (source, ...); no longer than the windows.
        """
        memory = [spec for spec in self._specs if not isinstance(spec, StateSpec)]
        sources = [_first(encoded[spec.name], count) for spec in memory]
        self._fit(memory, sources, [self._range(spec, first, count) for spec in memory])
        states = [spec for spec in self._specs if isinstance(spec, StateSpec)]
        binding = self._graphs.fill(states).io_binding()
        for number, spec in enumerate(states):
            start, target = self._start(spec, count, encoded), self._range(spec, first, count)
            start.bind_input(binding, f"x{number}")
            binding.bind_cpu_input(f"shape{number}", np.array(target.shape, dtype=np.int64))
            target.bind_output(binding, f"y{number}")
        self._graphs.fill(states).run_with_iobinding(binding)

    def keep(self, order: Ints) -> None:
        """Slot i gets what slot ``order[i]`` held: i, or one behind all kept; some move. Shape (kept slot,), int64."""
        moved = np.flatnonzero(order != np.arange(order.size))
        first, end = int(moved[0]), int(moved[-1]) + 1
        session = self._graphs.keep(self._specs)
        binding = session.io_binding()
        for number, spec in enumerate(self._specs):
            self._blocks[spec.name].view(self._shapes[spec.name]).bind_input(binding, f"x{number}")
            self._range(spec, first, end - first).bind_output(binding, f"y{number}")
        index = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(order[first:end]), self._graphs.device, 0)
        binding.bind_ortvalue_input("order", index)
        session.run_with_iobinding(binding)

    def bind(self, binding: ort.IOBinding, slots: int) -> None:
        """Binds the first ``slots`` slots; state as input and, updated in place, as output."""
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
        """What a new slot's state is repeated from: the encoder's, once for all beams, or a zero."""
        if spec.initial is None:
            zero = self._zeros[spec.dtype]
            return View(self._graphs.device, spec.dtype, (1,) * len(spec.axes), zero.data_ptr())
        alike, axis = _first(encoded[spec.initial], count), spec.axes.index(Axis.BEAM)
        return View(alike.device, alike.dtype, (*alike.shape[:axis], 1, *alike.shape[axis:]), alike.address)

    def _fit(self, specs: Sequence[TensorSpec], inputs: Sequence[View], outputs: Sequence[View]) -> None:
        session = self._graphs.fit(specs)
        binding = session.io_binding()
        for number, (source, target) in enumerate(zip(inputs, outputs, strict=True)):
            kept = np.minimum(source.shape, target.shape).astype(np.int64)
            pads = np.concatenate([np.zeros_like(kept), np.array(target.shape, dtype=np.int64) - kept])
            source.bind_input(binding, f"x{number}")
            binding.bind_cpu_input(f"ends{number}", kept)
            binding.bind_cpu_input(f"pads{number}", pads)
            target.bind_output(binding, f"y{number}")
        session.run_with_iobinding(binding)


def _first(view: View, count: int) -> View:
    return View(view.device, view.dtype, (count, *view.shape[1:]), view.address)
