"""A decoder step on a device: one copy takes the plan there, one brings the candidates back.

Slots are bucketed to powers of two, so that sizes come back and a step of given sizes can be recorded as a CUDA graph.
Idle slots compute something that nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import Axis, Precision
from serving.runtime.cache_table import HIDDEN
from serving.runtime.cuda_graphs import GraphedRun, GraphedSession
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.device_memory import Packed
from serving.runtime.size_buckets import power_of_two
from serving.step import Candidates, Floats, Ints, StepPlan

_MOST_BINDINGS = 512  # sizes that come back are few; forgetting the rest bounds the memory


@dataclass(frozen=True)
class _Bound:
    run: GraphedRun
    inputs: Packed
    outputs: Packed


class DeviceStep:
    """All steps of one grid's decoder, by their sizes."""

    def __init__(self, decoder: GraphedSession, precision: Precision, device: str, beam: int, pad_id: int) -> None:
        self._decoder, self._precision, self._device = decoder, precision, device
        self._beam, self._pad = beam, pad_id
        # Recording runs a step more than once. Cache entries are then written again; a recurrent state would go on.
        self._repeatable = all(spec.initial is None for spec in precision.state)
        self._bound: dict[tuple[int, ...], _Bound] = {}

    def run(
        self,
        plan: StepPlan,
        cache: tuple[Floats, Ints] | None,
        source_lengths: Ints,
        windows: Mapping[Axis, int],
        buffers: DeviceBuffers,
    ) -> Candidates:
        """Runs one step.

        Args:
            plan: One row for each busy slot.
            cache: Mask (slot, 1, beam, entry) and places (slot, beam, 2) of models with a cache.
            source_lengths: Of the busy slots. Shape (slot,), int64.
            windows: Sizes of src and entry.
            buffers: Memory and state.

        Returns:
            Views that the next step overwrites.
        """
        busy, edits = plan.tokens.shape[0], plan.edits.tokens.shape[2]
        sizes = {
            Axis.SLOT: power_of_two(busy),
            Axis.BEAM: self._beam,
            Axis.ENTRY: windows[Axis.ENTRY],
            Axis.EDIT: power_of_two(max(edits, 1)),
            Axis.CANDIDATE: plan.candidates,
        }
        key = (*sizes.values(), windows[Axis.SRC])
        bound = self._bound.get(key) or self._bind(key, sizes, buffers)
        values: dict[str, tuple[NDArray[np.generic], float]] = {
            "tokens": (plan.tokens, 0),
            "parents": (plan.parents, 0),
            "positions": (plan.positions, 0),
            "scores": (plan.scores, 0),
            "targets": (plan.targets, 0),
            "source_lengths": (source_lengths, 0),
            "edit_tokens": (plan.edits.tokens, self._pad),
            "edit_factors": (plan.edits.factors, 1),
            "edit_biases": (plan.edits.biases, -np.inf),
        }
        if cache is not None:
            values["mask"], values["places"] = (cache[0], HIDDEN), (cache[1], 0)
        for name, target in bound.inputs.host.items():
            if name in values:
                _fill(target, *values[name])
        _idle(bound.inputs.host, busy)
        bound.inputs.upload()
        bound.run()
        out = bound.outputs.download()
        return Candidates(
            scores=out["candidate_scores"][:busy],
            tokens=out["candidate_tokens"][:busy],
            parents=out["candidate_parents"][:busy],
            target_log_probs=out["target_log_probs"][:busy],
            alignment=out["alignment"][:busy],
        )

    def forget(self) -> None:
        """Drops all bindings and recorded runs: a block lies elsewhere now."""
        for bound in self._bound.values():
            bound.run.release()
        self._bound.clear()

    def _bind(self, key: tuple[int, ...], sizes: Mapping[Axis, int], buffers: DeviceBuffers) -> _Bound:
        if len(self._bound) >= _MOST_BINDINGS:
            self.forget()
        graph = self._precision.decoder
        inputs, outputs = (
            Packed(self._device, {spec.name: (spec, spec.shape(sizes)) for spec in specs})
            for specs in (graph.inputs, graph.outputs)
        )
        binding = self._decoder.session.io_binding()
        for spec in graph.inputs:
            inputs.view(spec.name).bind_input(binding, spec.name)
        for spec in graph.outputs:
            outputs.view(spec.name).bind_output(binding, spec.name)
        buffers.bind(binding, sizes[Axis.SLOT])
        self._bound[key] = _Bound(self._decoder.run(binding, fixed=self._repeatable), inputs, outputs)
        return self._bound[key]


def _fill(target: NDArray[np.generic], values: NDArray[np.generic], padding: float) -> None:
    """Copies busy slots' values into a target whose last axis may be longer, or shorter where the rest is padding."""
    busy, width = values.shape[0], min(target.shape[-1], values.shape[-1])
    if target.ndim == 1:
        target[:busy] = values
        return
    target[:busy, ..., :width] = values[..., :width]
    target[:busy, ..., width:] = padding


def _idle(inputs: Mapping[str, NDArray[np.generic]], busy: int) -> None:
    """Gives idle slots inputs that are lawful: nothing may be read or written outside of their own memory."""
    for name, target in inputs.items():
        if name != "ranks":
            target[busy:] = 1 if name == "source_lengths" else 0
    if "places" in inputs:
        slots = inputs["places"].shape[0]
        inputs["places"][busy:, :, 0] = np.arange(busy, slots)[:, None]
