"""The encoder on the CPU, into arrays that stay: fresh ones would cost a page fault for every 4 KiB they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis
from serving.runtime.denormals import denormals_are_zero
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import fill_rows
from serving.step import Ints


class HostEncoder:
    """The encoder of one grid."""

    def __init__(self, model: LoadedModel) -> None:
        self._session, self._graph, self._pad = model.encoder.session, model.precision.encoder, model.pad_id
        self._blocks = {spec.name: np.empty(0, dtype=np.dtype(spec.dtype)) for spec in self._graph.outputs}

    def __call__(
        self, sources: Sequence[Ints], shortlists: Mapping[str, Ints] | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """Encode sources as one batch.

        Args:
            sources: Token ids. Each shape (src,), int64.
            shortlists: Inputs of graphs with a shortlist, by name: ``columns`` (column,) or ``shortlist`` (source,
                shortlist), int64.

        Returns:
            The encoder's outputs by name, shape (source, ...); valid until the next call.
        """
        lengths = np.array([source.size for source in sources], dtype=np.int64)
        inputs = {"source": padded(sources, self._pad), "source_lengths": lengths, **(shortlists or {})}
        sizes: dict[Axis, int] = {}
        binding = self._session.io_binding()
        for spec in self._graph.inputs:
            pairs = zip(spec.axes, inputs[spec.name].shape, strict=True)
            sizes |= {axis: size for axis, size in pairs if isinstance(axis, Axis)}
            binding.bind_cpu_input(spec.name, inputs[spec.name])
        outputs = {spec.name: self._array(spec.name, spec.shape(sizes)) for spec in self._graph.outputs}
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        with denormals_are_zero():
            self._session.run_with_iobinding(binding)
        return outputs

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        if self._blocks[name].size < prod(shape):
            self._blocks[name] = np.empty(prod(shape), dtype=self._blocks[name].dtype)
        return self._blocks[name][: prod(shape)].reshape(shape)


def padded(rows: Sequence[Ints], padding: int) -> Ints:
    """Rows as one array, as wide as the longest. Shape (row, token), int64."""
    padded = np.empty((len(rows), max(row.size for row in rows)), dtype=np.int64)
    fill_rows(padded, rows, padding)
    return padded
