"""The engine's view of a model: somewhere to put sentences and a way to step them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.bundle.manifest import SpecialIds
from serving.step import Candidates, Floats, Ints, StepPlan


class Grid(Protocol):
    """Slots x beams of sentences in flight, all of one beam size, with their memory and state on the device.

    Busy slots are always 0 .. n-1. A grid is used by one thread at a time.
    """

    @property
    def beam(self) -> int:
        """Hypotheses of a slot."""

    @property
    def nbytes(self) -> int:
        """Bytes held for memory and state."""

    def admit(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]] = ()) -> None:
        """Encode sources and place them in the next slots, in order. If it raises, the grid is as it was.

        Args:
            sources: Token ids with the end token, already reversed where the model wants that. Each shape (src,).
            prefixes: Target tokens each translation will be made to begin with, if any is.
        """

    def step(self, plan: StepPlan) -> Candidates:
        """Run the decoder once for all busy slots; ``plan`` has exactly one row for each."""

    def attention(self) -> Floats:
        """Return how much each hypothesis attended to each position of its source in the last step.

        Only of models that tell it. It is valid until the next call of any method.

        Returns:
            Shape (slot, beam, src), float32. A row sums to 1 and is 0 beyond the slot's source.
        """

    def keep(self, order: Ints) -> None:
        """Keep some slots and free the rest: afterwards slot i holds what slot ``order[i]`` held.

        Args:
            order: Distinct slot numbers: slot i stays, or takes the place of one behind those kept, so that no move
                overwrites what another one reads. Shape (kept slot,), int64.
        """


class Runner(Protocol):
    """A loaded model."""

    @property
    def special_ids(self) -> SpecialIds:
        """The token ids with a meaning of their own."""

    @property
    def vocabulary_size(self) -> int:
        """The number of target tokens."""

    @property
    def precision_name(self) -> str:
        """Name of its precision in the manifest, such as ``int8``."""

    @property
    def device(self) -> str:
        """Where it really runs: ``cpu`` or ``cuda``."""

    def grid(self, beam: int, slots: int) -> Grid:
        """Make an empty grid for up to ``slots`` sentences with ``beam`` hypotheses each."""
