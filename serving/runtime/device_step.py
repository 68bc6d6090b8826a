"""A decoder step on a device: one copy takes the plan there, one brings the candidates back.

Slots are bucketed to powers of two, so that sizes come back and a step of given sizes can be recorded as a CUDA graph.
Idle slots compute something that nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import Axis
from serving.runtime.cuda_graphs import GraphedRun
from serving.runtime.decoder_step import BoundStep, DecoderStep
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.device_memory import Packed
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import power_of_two

_MOST_BINDINGS = 512


class _DeviceBound(BoundStep):
    def __init__(self, run: GraphedRun, inputs: Packed, outputs: Packed) -> None:
        self.inputs = inputs.host
        self._run, self._packed, self._outputs = run, inputs, outputs

    def run(self, busy: int) -> Mapping[str, NDArray[Any]]:
        _idle(self.inputs, busy)
        self._packed.upload()
        self._run()
        return self._outputs.download()

    def release(self) -> None:
        self._run.release()


class DeviceStep(DecoderStep):
    """All steps of one grid's decoder. A power of two of slots is bound."""

    def __init__(self, model: LoadedModel, buffers: DeviceBuffers) -> None:
        super().__init__(model.pad_id, _MOST_BINDINGS)
        self._model, self._buffers = model, buffers
        # Recording runs a step more than once. Cache entries are then written again; a recurrent state would go on.
        self._repeatable = all(spec.initial is None for spec in model.precision.state)

    def _slots(self, busy: int) -> int:
        return power_of_two(busy)

    def _bind(self, sizes: Mapping[Axis, int]) -> BoundStep:
        graph, decoder = self._model.precision.decoder, self._model.decoder
        inputs, outputs = (Packed(self._model.device, specs, sizes) for specs in (graph.inputs, graph.outputs))
        binding = decoder.session.io_binding()
        inputs.bind_inputs(binding)
        outputs.bind_outputs(binding)
        self._buffers.bind(binding, sizes[Axis.SLOT])
        return _DeviceBound(decoder.run(binding, fixed=self._repeatable), inputs, outputs)


def _idle(inputs: Mapping[str, NDArray[np.generic]], busy: int) -> None:
    """Give idle slots inputs that are lawful: nothing may be read or written outside of their own memory."""
    for name, target in inputs.items():
        if name != "ranks":
            target[busy:] = 1 if name == "source_lengths" else 0
    if "places" in inputs:
        slots = inputs["places"].shape[0]
        inputs["places"][busy:, :, 0] = np.arange(busy, slots)[:, None]
