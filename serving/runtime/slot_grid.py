"""Sentences in flight; ``host_grid`` and ``device_grid`` say where they lie and which sizes their tensors get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from serving.bundle.manifest import Axis
from serving.runtime.cache_table import CacheTable
from serving.runtime.decoder_step import DecoderStep
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.host_buffers import HostBuffers
from serving.runtime.size_buckets import power_of_two
from serving.step import Candidates, Floats, Ints, StepPlan

FIRST_SLOTS = 8  # with memory; doubles


class SlotGrid(ABC):
    """Slots x beams with their memory and state. See :class:`serving.runtime.runner.Grid`."""

    _windows: dict[Axis, int]  # sizes of the buffers
    _buffers: HostBuffers | DeviceBuffers
    _step: DecoderStep

    def __init__(self, beam: int, slots: int, *, cached: bool, window: Callable[[int, int], int]) -> None:
        """Start without sentences; ``window`` gives an axis its size, from that it has and what it must hold."""
        self._beam, self._slots, self._busy, self._window = beam, slots, 0, window
        self._entries = CacheTable(beam, slots) if cached else None
        self._source_lengths = np.zeros(slots, dtype=np.int64)

    @property
    def beam(self) -> int:
        """Hypotheses of a slot."""
        return self._beam

    @property
    def nbytes(self) -> int:
        """Bytes of memory and state."""
        return self._buffers.nbytes

    @abstractmethod
    def _encode(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]]) -> Mapping[str, Any]:
        """Encode sources as one batch; the outputs by name, shape (source, ...)."""

    def admit(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]] = ()) -> None:
        """Encode sources as one batch and place them in the next slots, in order. Each shape (src,), int64."""
        first, busy = self._busy, self._busy + len(sources)
        encoded = self._encode(sources, prefixes)
        self._source_lengths[first:busy] = [source.size for source in sources]
        self._fit(Axis.SRC, int(self._source_lengths[:busy].max()))
        if busy > self._windows[Axis.SLOT]:
            self._resize(Axis.SLOT, min(self._slots, power_of_two(busy)))
        self._buffers.admit(first, len(sources), encoded)
        if self._entries is not None:
            self._entries.admit(first, len(sources))
        self._busy = busy

    def step(self, plan: StepPlan) -> Candidates:
        """Run the decoder once for all busy slots; the answer is valid until the next step."""
        cache = None
        if self._entries is not None:
            cache = self._entries.advance(plan.parents)
            self._fit(Axis.ENTRY, cache[0].shape[3])
        return self._step.run(plan, cache, self._source_lengths[: self._busy], self._windows)

    def attention(self) -> Floats:
        """Return what each hypothesis attended to in the last step, valid until the next. Shape (slot, beam, src)."""
        return self._step.attention(self._busy)

    def keep(self, order: Ints) -> None:
        """Keep some slots, free the rest: slot i then holds what ``order[i]`` held. Shape (kept slot,), int64."""
        if (order != np.arange(order.size)).any():
            self._move(order)
        self._busy = int(order.size)

    def _move(self, order: Ints) -> None:
        self._source_lengths[: order.size] = self._source_lengths[order]
        self._buffers.keep(order)
        if self._entries is not None:
            self._entries.keep(order)

    def _fit(self, axis: Axis, needed: int) -> None:
        size = self._window(self._windows[axis], needed)
        if size != self._windows[axis]:
            self._resize(axis, size)

    def _resize(self, axis: Axis, size: int) -> None:
        self._windows[axis] = size
        if self._buffers.resize(axis, self._windows, self._busy):
            self._step.forget()
