"""A decoder step on a device: one copy takes the plan there, one brings the candidates back.

Attention, which is larger, stays there unless somebody asks for it.

Slots are bucketed to powers of two, so that sizes come back and a step of given sizes can be recorded as a CUDA graph.
Idle slots compute something that nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serving.bundle.manifest import ATTENTION, Axis
from serving.runtime.decoder_step import Arrays, BoundStep, DecoderStep
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.device_memory import Packed
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import power_of_two


class DeviceStep(DecoderStep):
    """All steps of one grid's decoder. A power of two of slots is bound."""

    _most = 512

    def __init__(self, model: LoadedModel, buffers: DeviceBuffers) -> None:
        super().__init__(model.pad_id, slots=power_of_two)
        self._model, self._buffers = model, buffers
        # Recording runs a step more than once. Cache entries are then written again; a recurrent state would go on.
        self._repeatable = all(spec.initial is None for spec in model.precision.state)

    def _bind(self, sizes: Mapping[Axis, int]) -> BoundStep:
        graph, decoder = self._model.precision.decoder, self._model.decoder
        inputs = Packed(self._model.device, graph.inputs, sizes)
        outputs, attention = (
            Packed(self._model.device, [spec for spec in graph.outputs if (spec.name == ATTENTION) is told], sizes)
            for told in (False, True)
        )
        binding = decoder.session.io_binding()
        inputs.bind_inputs(binding)
        outputs.bind_outputs(binding)
        attention.bind_outputs(binding)
        self._buffers.bind(binding, sizes[Axis.SLOT])
        graphed = decoder.run(binding, fixed=self._repeatable)

        def run(busy: int) -> Arrays:
            _idle(inputs.host, busy)
            inputs.upload()
            graphed()
            return outputs.download()

        return BoundStep(inputs.host, run, attention.download, graphed.release)


def _idle(inputs: Arrays, busy: int) -> None:
    """Give idle slots inputs that are lawful: nothing may be read or written outside of their own memory."""
    for name, target in inputs.items():
        if name != "ranks":
            target[busy:] = 1 if name == "source_lengths" else 0
    if "places" in inputs:
        slots = inputs["places"].shape[0]
        inputs["places"][busy:, :, 0] = np.arange(busy, slots)[:, None]
