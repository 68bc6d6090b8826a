"""A grid whose memory, state and steps stay on a device; ``host_grid`` is its twin for the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from serving.bundle.manifest import Axis
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.device_encoder import DeviceEncoder
from serving.runtime.device_memory import View
from serving.runtime.device_step import DeviceStep
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import SMALLEST_WINDOW, doubling, power_of_two
from serving.runtime.slot_grid import FIRST_SLOTS, SlotGrid
from serving.step import Ints


class DeviceGrid(SlotGrid):
    """Sentences in flight on a device."""

    def __init__(self, model: LoadedModel, beam: int, slots: int) -> None:
        slots = power_of_two(slots)
        super().__init__(beam, slots, cached=model.has_cache, window=doubling)
        self._windows = {
            Axis.SRC: SMALLEST_WINDOW,
            Axis.ENTRY: SMALLEST_WINDOW,
            Axis.SLOT: min(slots, FIRST_SLOTS),
        }
        self._buffers = DeviceBuffers(model, beam, self._windows)
        self._encoder = DeviceEncoder(model)
        self._step = DeviceStep(model, self._buffers)

    def _encode(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]]) -> dict[str, View]:
        return self._encoder(sources)
