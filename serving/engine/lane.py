"""One grid, its search, and the sentences in its slots, kept in step with each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from serving.decoding.beam import BeamSearch
from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.compaction import compaction
from serving.engine.observer import EngineObserver
from serving.engine.submission import Job
from serving.errors import DragomanError, EngineFailure
from serving.runtime.runner import Runner
from serving.step import Candidates, Ints, StepPlan

_NOBODY = -1  # listens to a sentence
_STEPS_REMEMBERED = 8  # more than the two after which a cancelled sentence has left its slot

Clock = Callable[[], float]
Ended = list[tuple[Job, "list[FinishedHypothesis] | DragomanError"]]


class Lane:
    """All sentences in flight with one beam size; slot i belongs to ``jobs[i]``. Used by its worker's thread only."""

    def __init__(self, runner: Runner, beam: int, slots: int, *, observer: EngineObserver, clock: Clock) -> None:
        """Allocate the grid."""
        self.beam = beam
        self.jobs: list[Job] = []
        self._grid = runner.grid(beam, slots)
        self._search = BeamSearch(beam, slots, special_ids=runner.special_ids, vocabulary_size=runner.vocabulary_size)
        self._deadlines = np.full(slots, np.inf)
        self._told = np.full(slots, _NOBODY)  # tokens told to the listener
        self._attentive = np.zeros(slots, dtype=np.bool_)  # slots that tell what they attend to
        self._fresh: list[Job] = []  # admitted since the last step
        self._step_ends: deque[float] = deque(maxlen=_STEPS_REMEMBERED)
        self._observer = observer
        self._clock = clock

    @property
    def nbytes(self) -> int:
        """The number of bytes held for memory and state."""
        return self._grid.nbytes

    def admit(self, jobs: Sequence[Job]) -> None:
        """Encode sentences together and give them the next slots; if the encoder fails, the lane is as it was."""
        now = self._clock()
        self._grid.admit([job.sentence.source for job in jobs], [job.sentence.options.given_tokens for job in jobs])
        self._search.admit([job.sentence.options for job in jobs])
        busy = len(self.jobs)
        deadlines = [np.inf if job.sentence.deadline is None else job.sentence.deadline for job in jobs]
        self._deadlines[busy : busy + len(jobs)] = deadlines
        self._told[busy : busy + len(jobs)] = [0 if job.submission.listener else _NOBODY for job in jobs]
        self._attentive[busy : busy + len(jobs)] = [job.sentence.attention for job in jobs]
        for job in jobs:
            if job.sentence.attention:
                shape = job.sentence.options.max_length, len(job.sentence.source)
                job.attention = np.zeros(shape, dtype=np.float32)
            job.admitted = now
            self._observer.admitted(now - job.accepted)
        encoded = self._clock()
        for job in jobs:
            job.encoded = encoded
        self.jobs.extend(jobs)
        self._fresh.extend(jobs)

    def late(self, now: float) -> Ints:
        """Return the slots whose deadline has passed. Shape (late slot,), int64."""
        return np.flatnonzero(self._deadlines[: len(self.jobs)] <= now)

    def cancelled(self) -> Ints:
        """Return the slots whose submission was cancelled. Shape (cancelled slot,), int64."""
        return np.flatnonzero([job.submission.cancelled for job in self.jobs])

    def steps_since(self, moment: float) -> int:
        """Count the steps that ended after ``moment``, among the last eight."""
        return sum(end > moment for end in self._step_ends)

    def step(self) -> Ended:
        """Move every sentence by one token and free the slots of those that ended.

        Returns:
            Those that ended, with their hypotheses or an ``EngineFailure`` of their own.
        """
        started = self._clock()
        plan = self._search.plan()
        planned = self._clock()
        candidates = self._grid.step(plan)
        ran = self._clock()
        self._note_attention(plan)
        poisoned = _not_a_number(plan, candidates)
        if poisoned.any():
            # The search must not see NaN; dead candidates end these slots and leave the others alone.
            healed = np.where(poisoned[:, None], np.float32(-np.inf), candidates.scores)
            candidates = replace(candidates, scores=healed)
        with np.errstate(invalid="ignore" if poisoned.any() else "warn"):
            finished = self._search.advance(candidates)
        ended: Ended = []
        if poisoned.any():
            finished = np.union1d(finished, np.flatnonzero(poisoned))
        if finished.size:
            ended = [(self.jobs[slot], self._outcome(slot, bool(poisoned[slot]))) for slot in finished.tolist()]
            self.free(finished)
        self._tell()
        done = self._clock()
        self._step_ends.append(done)
        slots = len(plan.positions)
        self._observer.stepped(done - started, (done - ran) + (planned - started), slots, self.beam)
        for job in self._fresh:
            self._observer.first_token(done - job.accepted)
        self._fresh.clear()
        return ended

    def _note_attention(self, plan: StepPlan) -> None:
        """Note what the hypotheses attended to in this step, of sentences that tell it."""
        slots = np.flatnonzero(self._attentive[: len(self.jobs)])
        if slots.size == 0:
            return
        weights = self._grid.attention()
        for slot in slots.tolist():
            job = self.jobs[slot]
            token = int(plan.positions[slot]) - len(job.sentence.options.start)
            if job.attention is not None and token >= 0:
                job.attention[token] = weights[slot, 0, : len(job.sentence.source)]

    def _tell(self) -> None:
        """Tell listeners which more tokens of their sentences are certain."""
        slots = np.flatnonzero(self._told[: len(self.jobs)] != _NOBODY)
        if slots.size == 0:
            return
        settled = self._search.settled(slots)
        grown = settled > self._told[slots]
        for slot, stop in zip(slots[grown].tolist(), settled[grown].tolist(), strict=True):
            job = self.jobs[slot]
            if job.submission.listener:
                job.submission.listener.grew(job.index, self._search.tokens(slot, int(self._told[slot]), stop))
        self._told[slots] = settled

    def _outcome(self, slot: int, poisoned: bool) -> list[FinishedHypothesis] | DragomanError:
        if poisoned:
            return EngineFailure("the model's scores for this sentence are NaN")
        hypotheses = self._search.hypotheses(slot)
        return hypotheses or EngineFailure("no continuation of this sentence has a probability above 0")

    def free(self, slots: Ints) -> list[Job]:
        """Free slots, close the holes, and return the jobs that were in them. Shape (freed slot,), int64."""
        freed = [self.jobs[slot] for slot in slots.tolist()]
        order = compaction(len(self.jobs), slots)
        self._grid.keep(order)
        self._search.keep(order)
        self._deadlines[: order.size] = self._deadlines[order]
        self._told[: order.size] = self._told[order]
        self._attentive[: order.size] = self._attentive[order]
        self.jobs = [self.jobs[slot] for slot in order.tolist()]
        return freed


def _not_a_number(plan: StepPlan, candidates: Candidates) -> NDArray[np.bool_]:
    """Find slots with NaN among their candidates or in the target log-probability of a live beam. Shape (slot,).

    The target is looked at too because a top-k may sort NaN out of sight.
    """
    if not np.isnan(candidates.scores.sum() + candidates.target_log_probs.sum()):
        return np.zeros(plan.scores.shape[0], dtype=bool)  # a NaN anywhere makes the sum one
    alive = plan.scores > -np.inf
    return np.asarray(
        np.isnan(candidates.scores).any(axis=1) | (np.isnan(candidates.target_log_probs) & alive).any(axis=1)
    )
