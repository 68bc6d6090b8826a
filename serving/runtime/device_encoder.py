"""Encodes on a device, into memory that stays there. Batches are padded to few sizes, which come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.bundle.manifest import Axis, Graph
from serving.runtime.cuda_graphs import GraphedRun, GraphedSession
from serving.runtime.device_memory import DeviceBlock, Packed, View
from serving.runtime.size_buckets import bucket, power_of_two
from serving.step import Ints

_MOST_BINDINGS = 256


@dataclass(frozen=True)
class _Bound:
    run: GraphedRun
    inputs: Packed
    outputs: dict[str, View]


class DeviceEncoder:
    """The encoder of one grid."""

    def __init__(self, encoder: GraphedSession, graph: Graph, device: str, pad_id: int) -> None:
        self._encoder, self._graph, self._device, self._pad = encoder, graph, device, pad_id
        self._blocks = {spec.name: DeviceBlock(device, spec.dtype) for spec in graph.outputs}
        self._bound: dict[tuple[int, int], _Bound] = {}

    def __call__(self, sources: Sequence[Ints]) -> dict[str, View]:
        """Encodes sources as one batch.

        Args:
            sources: Token ids. Each shape (src,), int64.

        Returns:
            The encoder's outputs by name, shape (source, ...), where more sources and positions follow than there are;
            valid until the next call.
        """
        key = power_of_two(len(sources)), bucket(max(source.size for source in sources))
        bound = self._bound.get(key) or self._bind(key)
        tokens, lengths = bound.inputs.host["source"], bound.inputs.host["source_lengths"]
        tokens[:], lengths[:] = self._pad, 1
        for number, source in enumerate(sources):
            tokens[number, : source.size], lengths[number] = source, source.size
        bound.inputs.upload()
        bound.run()
        return bound.outputs

    def _bind(self, key: tuple[int, int]) -> _Bound:
        sizes = dict(zip((Axis.SOURCE, Axis.SRC), key, strict=True))
        shapes = {spec.name: spec.shape(sizes) for spec in self._graph.outputs}
        grown = [self._blocks[name].reserve(shape) is not None for name, shape in shapes.items()]
        if any(grown) or len(self._bound) >= _MOST_BINDINGS:
            self._forget()
        inputs = Packed(self._device, {spec.name: (spec, spec.shape(sizes)) for spec in self._graph.inputs})
        outputs = {name: self._blocks[name].view(shape) for name, shape in shapes.items()}
        binding = self._encoder.session.io_binding()
        for spec in self._graph.inputs:
            inputs.view(spec.name).bind_input(binding, spec.name)
        for name, view in outputs.items():
            view.bind_output(binding, name)
        self._bound[key] = _Bound(self._encoder.run(binding), inputs, outputs)
        return self._bound[key]

    def _forget(self) -> None:
        for bound in self._bound.values():
            bound.run.release()
        self._bound.clear()
