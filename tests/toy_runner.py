"""A deterministic fake model over NumPy, for tests of the search, the engine and the API.

It "translates" by copying the source (or reversing it): that continuation gets a high log-probability, and every other
token gets pseudo-random noise that depends only on the slot's own source and on the hypothesis' own history. So beams
differ, constraints and sampling have something to choose from, and an answer that changes with its neighbours can only
be a leak. The history is a recurrent state, moved by the plan's parents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.bundle.manifest import SpecialIds
from serving.step import Candidates, Floats, Ints, StepPlan

_Hash = NDArray[np.uint64]
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class ToyModel:
    """What the toy answers.

    Attributes:
        vocabulary_size: Logits a step.
        special_ids: pad, bos and the start token are never proposed, unless one of them is the end token.
        reverse: Reverses the source instead of copying it.
        peak: Logit of the right continuation; noise is in [0, noise).
        noise: Spread of the other logits.
        nan_token: A source that holds this token gets NaN log-probabilities.
        loop_token: A source that holds this token is answered with its first token, ten times.
        leak: Makes every slot's answer depend on its neighbours: the negative control of batch-invariance tests.
    """

    vocabulary_size: int
    special_ids: SpecialIds
    reverse: bool = False
    peak: float = 8.0
    noise: float = 4.0
    nan_token: int | None = None
    loop_token: int | None = None
    leak: bool = False


@dataclass
class ToyCounts:
    """What the toy was asked to do.

    Attributes:
        sources: Sources encoded, in order.
        steps: Busy slots and beam size of each step.
        moved: Slots moved by compaction.
    """

    sources: list[tuple[int, ...]] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    moved: int = 0


def _no_hook() -> None:
    """Lets the model run."""


class ToyRunner:
    """A loaded toy model.

    ``before_encode`` and ``before_step`` are called on the engine's thread right before the work they name: a test
    blocks there on an event, counts, or raises a fault.
    """

    def __init__(
        self,
        model: ToyModel,
        *,
        before_encode: Callable[[], None] = _no_hook,
        before_step: Callable[[], None] = _no_hook,
    ) -> None:
        """Holds no state until a grid is made."""
        self.model = model
        self.special_ids, self.vocabulary_size = model.special_ids, model.vocabulary_size
        self.before_encode = before_encode
        self.before_step = before_step
        self.counts = ToyCounts()

    @property
    def precision_name(self) -> str:
        """Of its logits."""
        return "fp32"

    @property
    def device(self) -> str:
        """Always ``cpu``."""
        return "cpu"

    def grid(self, beam: int, slots: int) -> ToyGrid:
        """Makes an empty grid."""
        return ToyGrid(self, beam, slots)


class ToyGrid:
    """Slots x beams of the toy model; used by one thread at a time, and it checks that."""

    def __init__(self, runner: ToyRunner, beam: int, slots: int) -> None:
        """Allocates state for ``slots`` sentences."""
        self._runner, self._model = runner, runner.model
        self._beam, self._slots = beam, slots
        self._in_use = threading.Lock()
        self._sources: list[Ints] = []
        self._positions = np.zeros(0, dtype=np.int64)  # of the last step
        self._seeds = np.zeros(slots, dtype=np.uint64)
        self._states = np.zeros((slots, beam), dtype=np.uint64)  # the recurrent history

    @property
    def beam(self) -> int:
        """Hypotheses a slot."""
        return self._beam

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self._seeds.nbytes + self._states.nbytes

    def admit(self, sources: Sequence[Ints], prefixes: Sequence[Sequence[int]] = ()) -> None:
        """Places sources in the next slots.

        Raises:
            ValueError: More sources than free slots, or one without an end token.
        """
        with self._used():
            self._runner.before_encode()
            if len(self._sources) + len(sources) > self._slots:
                raise ValueError(
                    f"{len(sources)} sources for {self._slots - len(self._sources)} free slots: admit fewer"
                )
            for source in sources:
                if not len(source) or source[-1] != self._model.special_ids.eos:
                    raise ValueError("a source does not end in the end token: tokenise it with one")
            for source in sources:
                slot = len(self._sources)
                ids = np.asarray(source, dtype=np.uint64)
                self._seeds[slot] = _fold(_mix(ids + np.arange(ids.size, dtype=np.uint64) * _ODD))
                self._states[slot] = self._seeds[slot]
                self._sources.append(np.asarray(source, dtype=np.int64))
                self._runner.counts.sources.append(tuple(int(token) for token in source))

    def step(self, plan: StepPlan) -> Candidates:
        """Runs the toy decoder for all busy slots.

        Raises:
            ValueError: The plan has another number of rows.
        """
        with self._used():
            self._runner.before_step()
            busy, self._positions = len(self._sources), plan.positions.copy()
            if plan.tokens.shape != (busy, self._beam):
                raise ValueError(f"a plan of shape {plan.tokens.shape} for a grid of ({busy}, {self._beam})")
            self._runner.counts.steps.append((busy, self._beam))
            log_probs = self._log_probs(self._remember(plan), plan.positions)
            targets = np.take_along_axis(log_probs, plan.targets[:, :, None], axis=2)[:, :, 0]
            alignment = np.broadcast_to(self._aligned(plan.positions)[:, None], plan.tokens.shape)
            edits = plan.edits
            old = np.take_along_axis(log_probs, edits.tokens, axis=2)
            np.put_along_axis(log_probs, edits.tokens, old * edits.factors + edits.biases, axis=2)
            totals = (plan.scores[:, :, None] + log_probs).reshape(busy, -1)
            best = np.argsort(-totals, axis=1, kind="stable")[:, : plan.candidates]
            return Candidates(
                scores=np.take_along_axis(totals, best, axis=1),
                tokens=best % self._model.vocabulary_size,
                parents=best // self._model.vocabulary_size,
                target_log_probs=targets,
                alignment=alignment,
            )

    def attention(self) -> Floats:
        """Half of it at the position that explains the step, half spread over the source. Shape (slot, beam, src)."""
        sizes = np.array([source.size for source in self._sources])
        inside = np.arange(sizes.max()) < sizes[:, None]
        weights = np.where(inside, np.float32(0.5) / sizes[:, None], 0).astype(np.float32)
        weights[np.arange(sizes.size), self._aligned(self._positions)] += np.float32(0.5)
        return np.repeat(weights[:, None], self._beam, axis=1)

    def keep(self, order: Ints) -> None:
        """Keeps some slots and frees the rest.

        Args:
            order: Slot i gets what slot ``order[i]`` held. Shape (kept slot,), int64.

        Raises:
            ValueError: ``order`` repeats a slot, names an idle one, or moves one up.
        """
        with self._used():
            lawful = np.unique(order).size == order.size and (order >= np.arange(order.size)).all()
            if not lawful or (order >= len(self._sources)).any():
                raise ValueError(f"order {order.tolist()} of {len(self._sources)} slots is not a compaction")
            self._runner.counts.moved += int((order != np.arange(order.size)).sum())
            for array in (self._seeds, self._states):
                array[: order.size] = array[order]
            self._sources = [self._sources[slot] for slot in order.tolist()]

    def _remember(self, plan: StepPlan) -> _Hash:
        """Adds this step's tokens to the histories; returns each as one hash. Shape (slot, beam)."""
        busy, positions = len(self._sources), plan.positions
        weight = _mix(np.arange(int(positions.max()) + 1, dtype=np.uint64))
        states = np.take_along_axis(self._states[:busy], plan.parents, axis=1)
        states = states + plan.tokens.astype(np.uint64) * weight[positions][:, None]
        self._states[:busy] = states
        return states

    def _log_probs(self, histories: _Hash, positions: Ints) -> Floats:
        """Shape (slot, beam, vocab), in nats."""
        model, busy = self._model, len(self._sources)
        if model.leak:
            histories = histories + histories.sum()
        vocabulary = np.arange(model.vocabulary_size, dtype=np.uint64)
        noise = _mix(_mix(histories)[:, :, None] + vocabulary * _ODD)
        logits = (noise >> np.uint64(40)).astype(np.float32) * np.float32(model.noise / 2**24)
        right = [self._right(source, int(position)) for source, position in zip(self._sources, positions, strict=True)]
        logits[np.arange(busy), :, right] = model.peak
        ids = model.special_ids
        logits[:, :, sorted({ids.pad, ids.bos, ids.decoder_start} - {ids.eos})] = -np.inf
        top = logits.max(axis=2, keepdims=True)
        log_probs = logits - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True))
        for slot, source in enumerate(self._sources):
            if model.nan_token is not None and model.nan_token in source:
                log_probs[slot] = np.nan
        return np.asarray(log_probs, dtype=np.float32)

    def _right(self, source: Ints, position: int) -> int:
        """The token a perfect translation has at a target position."""
        translation = source[-2::-1] if self._model.reverse else source[:-1]
        if self._model.loop_token is not None and self._model.loop_token in source:
            translation = np.repeat(translation[:1], 10)
        return int(translation[position]) if position < translation.size else self._model.special_ids.eos

    def _aligned(self, positions: Ints) -> Ints:
        """The source position that explains each target position. Shape (slot,)."""
        ends = np.array([source.size - 1 for source in self._sources], dtype=np.int64)
        inner = ends - 1 - positions if self._model.reverse else positions
        return np.where(positions < ends, inner, ends)

    @contextmanager
    def _used(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise ValueError("a grid is used by one thread at a time: another one is at it")
        try:
            yield
        finally:
            self._in_use.release()


def _mix(values: _Hash) -> _Hash:
    """Scrambles 64-bit numbers. Source: splitmix64 (Steele et al. 2014), without its increment."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _fold(values: _Hash) -> np.uint64:
    """One number out of many."""
    return np.uint64(np.bitwise_xor.reduce(_mix(values)))
