"""A decoder step on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, TensorSpec
from serving.runtime.decoder_step import BoundStep, DecoderStep
from serving.runtime.host_buffers import HostBuffers
from serving.runtime.loaded_model import LoadedModel

_MOST_BINDINGS = 32  # of 23 KB each


class _HostBound(BoundStep):
    def __init__(self, session: ort.InferenceSession, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        self.inputs, self.binding = inputs, session.io_binding()
        self._session, self._outputs = session, outputs
        for name, array in inputs.items():
            self.binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            self.binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))

    def run(self, busy: int) -> Mapping[str, NDArray[Any]]:
        self._session.run_with_iobinding(self.binding)
        return self._outputs


class HostStep(DecoderStep):
    """All steps of one grid's decoder. As many slots are bound as are busy."""

    def __init__(self, model: LoadedModel, slots: int, buffers: HostBuffers) -> None:
        super().__init__(model.pad_id, _MOST_BINDINGS)
        self._model, self._most_slots, self._buffers = model, slots, buffers
        self._arrays: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}

    def _slots(self, busy: int) -> int:
        return busy

    def _bind(self, sizes: Mapping[Axis, int]) -> BoundStep:
        graph = self._model.precision.decoder
        inputs, outputs = (
            {spec.name: self._array(spec, sizes) for spec in specs} for specs in (graph.inputs, graph.outputs)
        )
        bound = _HostBound(self._model.decoder.session, inputs, outputs)
        self._buffers.bind(bound.binding, sizes[Axis.SLOT])
        return bound

    def _array(self, spec: TensorSpec, sizes: Mapping[Axis, int]) -> NDArray[Any]:
        """An array for one input or output; numbers of slots share it, as prefixes."""
        shape = spec.shape({**sizes, Axis.SLOT: self._most_slots})
        if (spec.name, shape) not in self._arrays:
            self._arrays[spec.name, shape] = np.zeros(shape, dtype=np.dtype(spec.dtype))
        array = self._arrays[spec.name, shape]
        return array[: sizes[Axis.SLOT]] if spec.axes[0] is Axis.SLOT else array
