"""A grid in main memory, stepped on the CPU; ``device_grid`` is its twin for a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import Axis
from serving.runtime.host_buffers import HostBuffers
from serving.runtime.host_encoder import HostEncoder, padded
from serving.runtime.host_step import HostStep
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.output_columns import OutputColumns
from serving.runtime.size_buckets import SMALLEST_SHORTLIST, SMALLEST_WINDOW, fitting
from serving.runtime.slot_grid import FIRST_SLOTS, SlotGrid
from serving.step import Ints


class HostGrid(SlotGrid):
    """Sentences in flight on the CPU."""

    def __init__(self, model: LoadedModel, beam: int, slots: int) -> None:
        super().__init__(beam, slots, cached=model.has_cache, window=fitting)
        self._windows = {
            Axis.SRC: SMALLEST_WINDOW,
            Axis.ENTRY: SMALLEST_WINDOW,
            Axis.SHORTLIST: SMALLEST_SHORTLIST,
            Axis.SLOT: min(slots, FIRST_SLOTS),
        }
        self._buffers = HostBuffers(model.tensors, beam, self._windows)
        self._encoder = HostEncoder(model)
        self._shortlist, self._shortlist_sizes = model.shortlist, np.zeros(slots, dtype=np.int64)
        specs = model.precision.columns
        self._columns = OutputColumns(specs, model.vocabulary_size) if specs else None
        self._step = HostStep(model, slots, self._buffers, self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes of memory and state, and of the shared part of the output layer."""
        return super().nbytes + (self._columns.nbytes if self._columns is not None else 0)

    def _encode(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]]) -> dict[str, NDArray[np.generic]]:
        if self._shortlist is None:
            return self._encoder(sources)
        pairs = zip(sources, prefixes or [()] * len(sources), strict=True)
        shortlists = [self._shortlist.candidates(source, prefix) for source, prefix in pairs]
        if self._columns is None:  # the graphs of ADR 10: columns are memory of each slot
            encoded = self._encoder(sources, {"shortlist": padded(shortlists, -1)})
        else:
            lacking = self._columns.lacking(shortlists)
            encoded = self._encoder(sources, {"columns": lacking})
            if self._columns.admit(shortlists, lacking, encoded):
                self._step.forget()
            encoded |= self._columns.tables(shortlists)
        first, busy = self._busy, self._busy + len(sources)
        self._shortlist_sizes[first:busy] = [shortlist.size for shortlist in shortlists]
        self._fit(Axis.SHORTLIST, max(int(self._shortlist_sizes[:busy].max()), SMALLEST_SHORTLIST))
        return encoded

    def keep(self, order: Ints) -> None:
        """Keep some slots, free the rest: slot i then holds what ``order[i]`` held. Shape (kept slot,), int64."""
        super().keep(order)
        if self._columns is not None and self._columns.keep(order):
            self._step.forget()

    def _move(self, order: Ints) -> None:
        super()._move(order)
        self._shortlist_sizes[: order.size] = self._shortlist_sizes[order]
