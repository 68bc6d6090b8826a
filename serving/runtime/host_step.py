"""Binds a decoder step to fixed addresses, once for each combination of sizes.

Between steps of the same sizes only the plan's numbers are copied, into arrays that stay bound.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, Precision, StateSpec, TensorSpec
from serving.runtime.cache_table import HIDDEN
from serving.runtime.host_buffers import SlotBuffer
from serving.step import Candidates, Floats, Ints, StepPlan

_MOST_BINDINGS = 32  # of 23 KB each; sizes that come back are few, and forgetting the rest bounds the memory


@dataclass(frozen=True)
class _Bound:
    binding: ort.IOBinding
    inputs: dict[str, NDArray[np.generic]]
    outputs: dict[str, NDArray[Any]]


class HostStep:
    """All bindings of one grid's decoder."""

    def __init__(self, session: ort.InferenceSession, precision: Precision, beam: int, slots: int, pad_id: int) -> None:
        self._session, self._precision, self._pad = session, precision, pad_id
        self._beam, self._slots = beam, slots
        self._arrays: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = {}
        self._bound: OrderedDict[tuple[int, ...], _Bound] = OrderedDict()  # least recently used first

    def run(
        self,
        plan: StepPlan,
        cache: tuple[Floats, Ints] | None,
        source_lengths: Ints,
        windows: tuple[int, int, int],
        buffers: Sequence[tuple[TensorSpec, SlotBuffer]],
    ) -> Candidates:
        """Runs one step.

        Args:
            plan: One row for each busy slot.
            cache: Mask (slot, 1, beam, entry) and places (slot, beam, 2) of models with a cache.
            source_lengths: Of all slots. Shape (slot,), int64.
            windows: Sizes bound for ``entry``, ``src`` and ``shortlist``.
            buffers: Memory and state; the same objects whenever ``windows`` are the same.

        Returns:
            Views that the next step overwrites.
        """
        slots, edits = plan.tokens.shape[0], plan.edits.tokens.shape[2]
        padded_edits = 1 << (edits - 1).bit_length() if edits else 1  # ONNX Runtime reduces nothing over no elements
        key = (slots, *windows, padded_edits, plan.candidates)
        bound = self._bound.get(key) or self._bind(key, buffers)
        self._bound.move_to_end(key)
        values: dict[str, tuple[NDArray[np.generic], float]] = {
            "tokens": (plan.tokens, 0),
            "parents": (plan.parents, 0),
            "positions": (plan.positions, 0),
            "scores": (plan.scores, 0),
            "targets": (plan.targets, 0),
            "source_lengths": (source_lengths[:slots], 0),
            "edit_tokens": (plan.edits.tokens, self._pad),
            "edit_factors": (plan.edits.factors, 1),
            "edit_biases": (plan.edits.biases, -np.inf),
        }
        if cache is not None:
            values["mask"], values["places"] = (cache[0], HIDDEN), (cache[1], 0)
        for name, target in bound.inputs.items():
            if name in values:
                _fill(target, *values[name])
        self._session.run_with_iobinding(bound.binding)
        out = bound.outputs
        return Candidates(
            scores=out["candidate_scores"],
            tokens=out["candidate_tokens"],
            parents=out["candidate_parents"],
            target_log_probs=out["target_log_probs"],
            alignment=out["alignment"],
        )

    def forget(self) -> None:
        """Drops all bindings: a buffer lies elsewhere now."""
        self._bound.clear()

    def _bind(self, key: tuple[int, ...], buffers: Sequence[tuple[TensorSpec, SlotBuffer]]) -> _Bound:
        slots, entries, _, _, edits, candidates = key
        sizes = {
            Axis.SLOT: slots,
            Axis.BEAM: self._beam,
            Axis.ENTRY: entries,
            Axis.EDIT: edits,
            Axis.CANDIDATE: candidates,
        }
        binding = self._session.io_binding()
        inputs, outputs = (
            {spec.name: self._array(spec, sizes) for spec in specs}
            for specs in (self._precision.decoder.inputs, self._precision.decoder.outputs)
        )
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        for spec, buffer in buffers:
            if isinstance(spec, StateSpec):
                buffer.bind(binding, slots, spec.past, spec.present)
            else:
                buffer.bind(binding, slots, spec.name, None)
        if len(self._bound) >= _MOST_BINDINGS:
            self._bound.popitem(last=False)
        self._bound[key] = _Bound(binding, inputs, outputs)
        return self._bound[key]

    def _array(self, spec: TensorSpec, sizes: Mapping[Axis, int]) -> NDArray[Any]:
        """An array for one input or output; numbers of slots share it, as prefixes."""
        shape = spec.shape({**sizes, Axis.SLOT: self._slots})
        key = spec.name, shape
        if key not in self._arrays:
            self._arrays[key] = np.zeros(shape, dtype=np.dtype(spec.dtype))
        array = self._arrays[key]
        return array[: sizes[Axis.SLOT]] if spec.axes[0] is Axis.SLOT else array


def _fill(target: NDArray[np.generic], values: NDArray[np.generic], padding: float) -> None:
    """Copies values into a target whose last axis may be longer, or shorter where the rest is padding anyway."""
    width = min(target.shape[-1], values.shape[-1])
    target[..., :width] = values[..., :width]
    target[..., width:] = padding
