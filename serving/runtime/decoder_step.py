"""A decoder step from plan to candidates; ``host_step`` and ``device_step`` say where its tensors lie and how it runs.

A step is bound to fixed addresses once for each combination of sizes. Between steps of the same sizes only the plan's
numbers are copied, into arrays that stay bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import Axis
from serving.runtime.cache_table import HIDDEN
from serving.runtime.padding import fill
from serving.runtime.size_buckets import power_of_two
from serving.step import Candidates, Floats, Ints, StepPlan


class BoundStep(ABC):
    """A step of given sizes.

    Attributes:
        inputs: Arrays to fill, by name. Shapes (slot, ...), but for ``ranks``, of which only the size matters.
    """

    inputs: Mapping[str, NDArray[np.generic]]

    @abstractmethod
    def run(self, busy: int) -> Mapping[str, NDArray[Any]]:
        """Run once; the first ``busy`` slots are filled. Return the outputs by name, shapes (slot, ...)."""

    def release(self) -> None:  # noqa: B027 - most hold nothing
        """Give up what the step holds outside of its arrays."""


class DecoderStep(ABC):
    """All steps of one grid's decoder, by their sizes."""

    def __init__(self, pad_id: int, most: int) -> None:
        """Start without any.

        Args:
            pad_id: Token of edits that are padding.
            most: Steps to keep bound: sizes that come back are few, and forgetting the rest bounds the memory.
        """
        self._pad, self._most = pad_id, most
        self._bound: OrderedDict[tuple[int, ...], BoundStep] = OrderedDict()  # least recently used first

    @abstractmethod
    def _slots(self, busy: int) -> int:
        """How many slots to bind for those that are busy."""

    @abstractmethod
    def _bind(self, sizes: Mapping[Axis, int]) -> BoundStep:
        """Bind a step of new sizes."""

    def run(
        self, plan: StepPlan, cache: tuple[Floats, Ints] | None, source_lengths: Ints, windows: Mapping[Axis, int]
    ) -> Candidates:
        """Run one step.

        Args:
            plan: One row for each busy slot.
            cache: Mask (slot, 1, beam, entry) and places (slot, beam, 2) of models with a cache.
            source_lengths: Of the busy slots. Shape (slot,), int64.
            windows: Sizes of the grid's buffers, which lie in the same places whenever these are the same.

        Returns:
            Views that the next step overwrites.
        """
        busy, beam, edits = plan.edits.tokens.shape
        sizes = {
            **windows,
            Axis.SLOT: self._slots(busy),
            Axis.BEAM: beam,
            Axis.EDIT: power_of_two(max(edits, 1)),  # ONNX Runtime reduces nothing over no elements
            Axis.CANDIDATE: plan.candidates,
        }
        key = tuple(sizes.values())
        if key not in self._bound:
            if len(self._bound) >= self._most:
                self._bound.popitem(last=False)[1].release()
            self._bound[key] = self._bind(sizes)
        self._bound.move_to_end(key)
        bound = self._bound[key]
        values = _values(plan, cache, source_lengths, self._pad)
        for name, target in bound.inputs.items():
            if name in values:
                fill(target, *values[name])
        out = bound.run(busy)
        return Candidates(
            scores=out["candidate_scores"][:busy],
            tokens=out["candidate_tokens"][:busy],
            parents=out["candidate_parents"][:busy],
            target_log_probs=out["target_log_probs"][:busy],
            alignment=out["alignment"][:busy],
        )

    def forget(self) -> None:
        """Drop all bindings: a buffer lies elsewhere now."""
        for bound in self._bound.values():
            bound.release()
        self._bound.clear()


def _values(
    plan: StepPlan, cache: tuple[Floats, Ints] | None, source_lengths: Ints, pad_id: int
) -> dict[str, tuple[NDArray[np.generic], float]]:
    """The decoder's inputs by name, and what pads their last axis."""
    values: dict[str, tuple[NDArray[np.generic], float]] = {
        "tokens": (plan.tokens, 0),
        "parents": (plan.parents, 0),
        "positions": (plan.positions, 0),
        "scores": (plan.scores, 0),
        "targets": (plan.targets, 0),
        "source_lengths": (source_lengths, 0),
        "edit_tokens": (plan.edits.tokens, pad_id),
        "edit_factors": (plan.edits.factors, 1),
        "edit_biases": (plan.edits.biases, -np.inf),
    }
    if cache is not None:
        values["mask"], values["places"] = (cache[0], HIDDEN), (cache[1], 0)
    return values
