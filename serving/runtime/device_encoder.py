"""The encoder on a device, into memory that stays there. Batches are padded to few sizes, which come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.bundle.manifest import Axis
from serving.runtime.cuda_graphs import GraphedRun
from serving.runtime.device_memory import DeviceBlock, Packed, View
from serving.runtime.loaded_model import LoadedModel
from serving.runtime.size_buckets import bucket, fill_rows, power_of_two
from serving.step import Ints

_MOST_BINDINGS = 256


@dataclass(frozen=True)
class _Bound:
    run: GraphedRun
    inputs: Packed
    outputs: dict[str, View]


class DeviceEncoder:
    """The encoder of one grid."""

    def __init__(self, model: LoadedModel) -> None:
        self._encoder, self._graph, self._device = model.encoder, model.precision.encoder, model.device
        self._pad = model.pad_id
        self._blocks = {spec.name: DeviceBlock(model.device, spec.dtype) for spec in self._graph.outputs}
        self._bound: dict[tuple[int, int], _Bound] = {}

    def __call__(self, sources: Sequence[Ints]) -> dict[str, View]:
        """Encode sources as one batch.

        Args:
            sources: Token ids. Each shape (src,), int64.

        Returns:
            The encoder's outputs by name, shape (source, ...), where more sources and positions follow than there are;
            valid until the next call.
        """
        key = power_of_two(len(sources)), bucket(max(source.size for source in sources))
        bound = self._bound.get(key) or self._bind(key)
        lengths = bound.inputs.host["source_lengths"]
        fill_rows(bound.inputs.host["source"], sources, self._pad)
        lengths[: len(sources)] = [source.size for source in sources]
        lengths[len(sources) :] = 1  # of sources that are padding: attention over no positions would be NaN
        bound.inputs.upload()
        bound.run()
        return bound.outputs

    def _bind(self, key: tuple[int, int]) -> _Bound:
        sizes = dict(zip((Axis.SOURCE, Axis.SRC), key, strict=True))
        shapes = {spec.name: spec.shape(sizes) for spec in self._graph.outputs}
        grown = [self._blocks[name].reserve(shape) is not None for name, shape in shapes.items()]
        if any(grown) or len(self._bound) >= _MOST_BINDINGS:
            for bound in self._bound.values():
                bound.run.release()
            self._bound.clear()
        inputs = Packed(self._device, self._graph.inputs, sizes)
        outputs = {name: self._blocks[name].view(shape) for name, shape in shapes.items()}
        binding = self._encoder.session.io_binding()
        inputs.bind_inputs(binding)
        for name, view in outputs.items():
            view.bind_output(binding, name)
        self._bound[key] = _Bound(self._encoder.run(binding), inputs, outputs)
        return self._bound[key]
