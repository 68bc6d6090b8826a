"""The encoder on the CPU, into arrays that stay: fresh ones would cost a page fault for every 4 KiB they hold."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import fill_rows
from serving.step import Ints


class HostEncoder:
    """The encoder of one grid."""

    def __init__(self, model: LoadedModel) -> None:
        self._session, self._graph, self._pad = model.encoder.session, model.precision.encoder, model.pad_id
        self._blocks = {spec.name: np.empty(0, dtype=np.dtype(spec.dtype)) for spec in self._graph.outputs}

    def __call__(self, sources: Sequence[Ints], shortlists: Sequence[Ints] = ()) -> dict[str, NDArray[np.generic]]:
        """Encode sources as one batch.

        Args:
            sources: Token ids. Each shape (src,), int64.
            shortlists: The target tokens each may use, for graphs that want them. Each shape (shortlist,), int64.

        Returns:
            The encoder's outputs by name, shape (source, ...); valid until the next call.
        """
        padded = _padded(sources, self._pad)
        sizes = {Axis.SOURCE: padded.shape[0], Axis.SRC: padded.shape[1]}
        binding = self._session.io_binding()
        if shortlists:
            tokens = _padded(shortlists, -1)  # no token
            sizes[Axis.SHORTLIST] = tokens.shape[1]
            binding.bind_cpu_input("shortlist", tokens)
        outputs = {spec.name: self._array(spec.name, spec.shape(sizes)) for spec in self._graph.outputs}
        binding.bind_cpu_input("source", padded)
        binding.bind_cpu_input("source_lengths", np.array([source.size for source in sources], dtype=np.int64))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._session.run_with_iobinding(binding)
        return outputs

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
        if self._blocks[name].size < prod(shape):
            self._blocks[name] = np.empty(prod(shape), dtype=self._blocks[name].dtype)
        return self._blocks[name][: prod(shape)].reshape(shape)


def _padded(rows: Sequence[Ints], padding: int) -> Ints:
    """Rows as one array, as wide as the longest. Shape (row, token), int64."""
    padded = np.empty((len(rows), max(row.size for row in rows)), dtype=np.int64)
    fill_rows(padded, rows, padding)
    return padded
