"""A grid whose memory, state and steps stay on a device; what ``OnnxGrid`` is on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.bundle.manifest import Axis, Precision
from serving.runtime.cache_table import CacheTable
from serving.runtime.cuda_graphs import GraphedSession
from serving.runtime.device_buffers import DeviceBuffers, SlotGraphs
from serving.runtime.device_encoder import DeviceEncoder
from serving.runtime.device_step import DeviceStep
from serving.runtime.size_buckets import SMALLEST_WINDOW, doubling, power_of_two
from serving.step import Candidates, Ints, StepPlan

_FIRST_SLOTS = 8  # with memory; doubles


@dataclass(frozen=True)
class DeviceModel:
    """What all grids of a model share.

    Attributes:
        precision: What the graphs read and write.
        encoder: Its session.
        decoder: Its session.
        graphs: For slots on its device.
        pad_id: Token of padding.
    """

    precision: Precision
    encoder: GraphedSession
    decoder: GraphedSession
    graphs: SlotGraphs
    pad_id: int


class DeviceGrid:
    """Slots x beams of sentences in flight. See :class:`serving.runtime.runner.Grid`."""

    def __init__(self, model: DeviceModel, beam: int, slots: int) -> None:
        precision, device = model.precision, model.graphs.device
        self._beam, self._slots, self._busy = beam, power_of_two(slots), 0
        self._windows = {
            Axis.SRC: SMALLEST_WINDOW,
            Axis.ENTRY: SMALLEST_WINDOW,
            Axis.SLOT: min(self._slots, _FIRST_SLOTS),
        }
        specs = (*precision.memory, *precision.state)
        self._buffers = DeviceBuffers(specs, model.graphs, beam, self._windows)
        cached = any(Axis.ENTRY in spec.axes for spec in specs)
        self._entries = CacheTable(beam, slots) if cached else None
        self._source_lengths = np.zeros(slots, dtype=np.int64)
        self._encode = DeviceEncoder(model.encoder, precision.encoder, device, model.pad_id)
        self._step = DeviceStep(model.decoder, precision, device, beam, model.pad_id)

    @property
    def beam(self) -> int:
        """Hypotheses a slot."""
        return self._beam

    @property
    def nbytes(self) -> int:
        """Bytes of memory and state."""
        return self._buffers.nbytes

    def admit(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]] = ()) -> None:
        """Encodes sources as one batch and places them in the next slots, in order. Each shape (src,), int64."""
        first, count = self._busy, len(sources)
        encoded = self._encode(sources)
        self._source_lengths[first : first + count] = [source.size for source in sources]
        in_flight = self._source_lengths[: first + count]
        self._resize(Axis.SRC, doubling(self._windows[Axis.SRC], int(in_flight.max())))
        self._resize(Axis.SLOT, max(self._windows[Axis.SLOT], power_of_two(in_flight.size)))
        self._buffers.admit(first, count, encoded)
        if self._entries is not None:
            self._entries.admit(first, count)
        self._busy += count

    def step(self, plan: StepPlan) -> Candidates:
        """Runs the decoder once for all busy slots; the answer is valid until the next step."""
        cache = None
        if self._entries is not None:
            cache = self._entries.advance(plan.parents)
            self._resize(Axis.ENTRY, doubling(self._windows[Axis.ENTRY], cache[0].shape[3]))
        return self._step.run(plan, cache, self._source_lengths[: self._busy], self._windows, self._buffers)

    def keep(self, order: Ints) -> None:
        """Keeps some slots, frees the rest: slot i then holds what ``order[i]`` held. Shape (kept slot,), int64."""
        targets = np.flatnonzero(order != np.arange(order.size))
        if targets.size:
            sources = order[targets]
            self._source_lengths[targets] = self._source_lengths[sources]
            self._buffers.keep(order)
            if self._entries is not None:
                self._entries.keep(order)
        self._busy = int(order.size)

    def _resize(self, axis: Axis, size: int) -> None:
        if size == self._windows[axis]:
            return
        self._windows[axis] = size
        if self._buffers.resize(axis, self._windows, self._busy):
            self._step.forget()
