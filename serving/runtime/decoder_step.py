"""A decoder step from plan to candidates; ``host_step`` and ``device_step`` say where its tensors lie and how it runs.

A step is bound to fixed addresses once for each combination of sizes. Between steps of the same sizes only the plan's
numbers are copied, into arrays that stay bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import ATTENTION, Axis
from serving.runtime.cache_table import HIDDEN
from serving.runtime.size_buckets import fill, power_of_two
from serving.step import Candidates, Floats, Ints, StepPlan

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class BoundStep:
    """A step of given sizes.

    Attributes:
        inputs: Arrays to fill, by name. Shapes (slot, ...), but for ``ranks``, of which only the size matters.
        run: Runs it with that many busy slots; returns the outputs by name, but for attention. Shapes (slot, ...).
        attention: Returns that of the last run, shape (slot, beam, src), of models that tell it.
        release: Gives up what was recorded of it.
    """

    inputs: Arrays
    run: Callable[[int], Arrays]
    attention: Callable[[], Arrays]
    release: Callable[[], None]


class DecoderStep(ABC):
    """All steps of one grid's decoder, by their sizes."""

    _most: int  # to keep bound: sizes that come back are few, and forgetting the rest bounds the memory

    def __init__(self, pad_id: int, slots: Callable[[int], int]) -> None:
        """Start without any; ``slots`` says how many slots to bind for those that are busy."""
        self._pad, self._slots = pad_id, slots
        self._bound: OrderedDict[tuple[int, ...], BoundStep] = OrderedDict()  # least recently used first
        self._last: BoundStep | None = None  # that ran

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
        for name, (values, padding) in _inputs(plan, cache, source_lengths, self._pad).items():
            if name in bound.inputs:  # an RNN has no use for places, a Transformer none for parents
                fill(bound.inputs[name], values, padding)
        self._last = bound
        out = bound.run(busy)
        return Candidates(
            scores=out["candidate_scores"][:busy],
            tokens=out["candidate_tokens"][:busy],
            parents=out["candidate_parents"][:busy],
            target_log_probs=out["target_log_probs"][:busy],
            alignment=out["alignment"][:busy],
        )

    def attention(self, busy: int) -> Floats:
        """Return what each hypothesis attended to in the last step. Shape (busy slot, beam, src).

        Raises:
            ValueError: There has been no step since the buffers moved.
        """
        if self._last is None:
            raise ValueError("no step has run, or buffers have moved since: ask for attention after a step")
        weights: Floats = self._last.attention()[ATTENTION][:busy]
        return weights

    def forget(self) -> None:
        """Drop all bindings: a buffer lies elsewhere now."""
        for bound in self._bound.values():
            bound.release()
        self._bound.clear()
        self._last = None


def _inputs(
    plan: StepPlan, cache: tuple[Floats, Ints] | None, source_lengths: Ints, pad_id: int
) -> dict[str, tuple[NDArray[Any], float]]:
    """Return the decoder's inputs by name, each with what pads its last axis."""
    inputs: dict[str, tuple[NDArray[Any], float]] = {
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
        inputs |= {"mask": (cache[0], HIDDEN), "places": (cache[1], 0)}
    return inputs
