"""A decoder step on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, TensorSpec
from serving.runtime.decoder_step import Arrays, BoundStep, DecoderStep
from serving.runtime.denormals import denormals_are_zero
from serving.runtime.host_buffers import HostBuffers
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.output_columns import OutputColumns


class HostStep(DecoderStep):
    """All steps of one grid's decoder. As many slots are bound as are busy."""

    _most = 64  # bindings of 23 KB each

    def __init__(
        self, model: LoadedModel, slots: int, buffers: HostBuffers, columns: OutputColumns | None = None
    ) -> None:
        super().__init__(model.pad_id, slots=lambda busy: busy)
        self._session, self._graph, self._buffers = model.decoder.session, model.precision.decoder, buffers
        self._most_slots, self._columns = slots, columns
        self._arrays: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def _bind(self, sizes: Mapping[Axis, int]) -> BoundStep:
        binding = self._session.io_binding()
        inputs = {spec.name: self._array(spec, sizes) for spec in self._graph.inputs}
        outputs = {spec.name: self._array(spec, sizes) for spec in self._graph.outputs}
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._buffers.bind(binding, sizes[Axis.SLOT])
        if self._columns is not None:
            self._columns.bind(binding)

        def run(_: int) -> Arrays:
            with denormals_are_zero():
                self._session.run_with_iobinding(binding)
            return outputs

        return BoundStep(inputs, run, attention=lambda: outputs, release=lambda: None)

    def _array(self, spec: TensorSpec, sizes: Mapping[Axis, int]) -> NDArray[Any]:
        """Return an array for one input or output; numbers of slots share it, as prefixes."""
        shape = spec.shape({**sizes, Axis.SLOT: self._most_slots})
        if (spec.name, shape) not in self._arrays:
            self._arrays[spec.name, shape] = np.zeros(shape, dtype=np.dtype(spec.dtype))
        array = self._arrays[spec.name, shape]
        return array[: sizes[Axis.SLOT]] if spec.axes[0] is Axis.SLOT else array
