"""The engine: one thread that encodes, steps and publishes, for all sentences of one model.

Each round of the thread: drop what was cancelled or is late, share out what the scheduler chooses, let every busy lane
encode its share and step once, publish what ended. With several workers, lanes do so at the same time, and each beam
size has as many lanes. Sentences join and leave at any round. Every accepted sentence ends exactly once: decoded, or
with an error, also when a step fails, the engine stops, or its thread dies.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from serving.bundle.manifest import SpecialIds
from serving.decoding.step import Ints
from serving.engine.lane import Clock, Lane, LaneTurn
from serving.engine.observer import (
    DropReason,
    EngineObserver,
    EngineSnapshot,
    Outcome,
    RejectReason,
    SilentObserver,
)
from serving.engine.scheduler import Batch, EngineLimits, Scheduler, Turn
from serving.engine.submission import Decoded, Job, Sentence, Submission
from serving.errors import Cancelled, DeadlineExceeded, DragomanError, EngineFailure, Overloaded, Unavailable
from serving.runtime.runner import Runner

_LOG = logging.getLogger(__name__)
_UNHEALTHY_FAILURES = 3  # in a row, without a good step between them
_RETRY_SECONDS = (0.1, 30.0)  # shortest and longest advice to a caller
_OUTCOMES: dict[type[DragomanError], Outcome] = {
    Cancelled: Outcome.CANCELLED,
    DeadlineExceeded: Outcome.DEADLINE,
    EngineFailure: Outcome.FAILURE,
    Unavailable: Outcome.STOPPED,
}


class Engine:
    """Decodes sentences of one model; safe to use from any thread."""

    def __init__(
        self,
        runner: Runner,
        *,
        special_ids: SpecialIds,
        vocabulary_size: int,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        name: str = "model",
        clock: Clock = time.monotonic,
    ) -> None:
        """Starts the engine's thread; end it with :meth:`stop`."""
        self._runner = runner
        self._special_ids = special_ids
        self._vocabulary_size = vocabulary_size
        self._limits = limits or EngineLimits()
        self._observer: EngineObserver = observer or SilentObserver()
        self._name = name
        self._clock = clock
        self._changed = threading.Condition()  # guards what follows
        self._scheduler: Scheduler[Job] = Scheduler(self._limits)
        self._cancelled: list[Submission] = []
        self._unsettled: set[Job] = set()
        self._draining = False
        self._stopping = False
        self._ended = False
        # By beam size and worker, least recently used first; changed by the thread only.
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._workers = ThreadPoolExecutor(self._limits.workers, f"lane-{name}") if self._limits.workers > 1 else None
        self._failures = 0
        self._state_bytes = 0
        self._thread = threading.Thread(target=self._run, name=f"engine-{name}", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """The thread lives, and its last steps did not all fail."""
        return self._thread.is_alive() and not self._ended and self._failures < _UNHEALTHY_FAILURES

    def snapshot(self) -> EngineSnapshot:
        """The engine's gauges now."""
        with self._changed:
            scheduler = self._scheduler
            return EngineSnapshot(
                queue_depth=scheduler.queue_depth,
                queue_tokens=scheduler.queue_tokens,
                oldest_age_seconds=scheduler.oldest_age(self._clock()),
                running_slots=scheduler.running_slots,
                running_rows=scheduler.running_rows,
                running_tokens=scheduler.running_tokens,
                lanes=len(self._lanes),
                state_bytes=self._state_bytes,
                draining=self._draining,
                healthy=self.healthy,
            )

    def submit(self, sentences: Sequence[Sentence]) -> Submission:
        """Accepts all of ``sentences``, or none. Returns at once.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
        """
        with self._changed:
            now = self._clock()
            submission = Submission.of(sentences, now, self._cancel)
            reason = self._refuse(submission, now)
            retry_after = self._scheduler.wait_estimate() or 1.0
            if reason is None:
                self._unsettled.update(submission.jobs)
                self._observer.submitted(len(sentences), sum(len(sentence.source) for sentence in sentences))
                self._changed.notify_all()
                return submission
        self._observer.rejected(len(sentences), reason)
        raise self._refusal(reason, min(max(retry_after, _RETRY_SECONDS[0]), _RETRY_SECONDS[1]))

    def _refuse(self, submission: Submission, now: float) -> RejectReason | None:
        if self._stopping or self._ended:
            return RejectReason.STOPPED
        if self._draining:
            return RejectReason.DRAINING
        return self._scheduler.offer([(job, job.sentence.demand()) for job in submission.jobs], now)

    def _refusal(self, reason: RejectReason, retry_after: float) -> DragomanError:
        limits = self._limits
        match reason:
            case RejectReason.DEADLINE:
                return DeadlineExceeded("the deadline cannot be met by this server now; allow more time")
            case RejectReason.DRAINING | RejectReason.STOPPED:
                message = f"model {self._name} takes no more work here; try another server"
                return Unavailable(message, reason=reason.value, retry_after=retry_after)
            case RejectReason.QUEUE_FULL:
                message = f"the queue holds {limits.queue_sentences} sentences at most; try again later"
            case RejectReason.TOKENS_FULL:
                message = f"the queue holds {limits.queue_tokens} source tokens at most; try again later"
        return Overloaded(message, reason=reason.value, retry_after=retry_after)

    def _cancel(self, submission: Submission) -> None:
        with self._changed:
            if self._ended or submission.cancelled:
                return
            submission.cancelled = True
            for lane in list(self._lanes.values()):
                for job in lane.jobs:
                    if job.submission is submission:
                        job.steps_at_cancel = lane.steps
            self._cancelled.append(submission)
            self._changed.notify_all()

    def drain(self) -> None:
        """Refuses new work from now on; accepted work goes on."""
        with self._changed:
            self._draining = True

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all accepted work has ended; False if ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unsettled, timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Ends the thread after its current step; work that has not ended gets ``Unavailable``."""
        with self._changed:
            self._draining = self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    # What follows runs on the engine's thread.

    def _run(self) -> None:
        error: DragomanError = EngineFailure("the engine's thread died")
        try:
            while self._round():
                pass
            error = Unavailable("the server is stopping; try another one", reason="stopped", retry_after=1.0)
        except BaseException:
            _LOG.critical("engine %s died", self._name, exc_info=True)
        finally:
            self._end(error)

    def _end(self, error: DragomanError) -> None:
        with self._changed:
            self._ended = True
            unsettled = list(self._unsettled)
            self._scheduler = Scheduler(self._limits)
            self._cancelled.clear()
            self._lanes.clear()
        if self._workers is not None:
            self._workers.shutdown(wait=False)
        for job in unsettled:
            with suppress(Exception):  # an observer that raises must not keep the others waiting
                self._settle(job, error)

    def _round(self) -> bool:
        """One round; False when the engine is to stop."""
        with self._changed:
            while not (self._stopping or self._cancelled or self._scheduler.busy):
                self._changed.wait()
            if self._stopping:
                return False
            cancelled, self._cancelled = self._cancelled, []
        self._drop(cancelled)
        self._work(self._shared_out(self._turn(cancelled)))
        self._state_bytes = self._runner.state_bytes()
        return True

    def _drop(self, cancelled: Sequence[Submission]) -> None:
        """Frees the slots of sentences nobody waits for any more."""
        gone = {job for submission in cancelled for job in submission.jobs}
        now = self._clock()
        for lane in list(self._lanes.values()):
            slots = [slot for slot, job in enumerate(lane.jobs) if job in gone] if gone else []
            for job in self._free(lane, np.array(slots, dtype=np.int64)):
                self._observer.freed(0 if job.steps_at_cancel is None else lane.steps - job.steps_at_cancel)
                self._release(job, Cancelled("cancelled while decoding"))
            for job in self._free(lane, lane.late(now)):
                self._release(job, DeadlineExceeded("the deadline passed while decoding"))

    def _free(self, lane: Lane, slots: Ints) -> list[Job]:
        try:
            return lane.free(slots) if slots.size else []
        except Exception as error:
            self._tear_down(lane, "freeing slots failed", error)
            return []

    def _turn(self, cancelled: Sequence[Submission]) -> Turn[Job]:
        with self._changed:
            # Whoever cancelled since this round began must not reach the encoder either.
            submissions = (*cancelled, *self._cancelled)
            withdrawn = [job for one in submissions for job in one.jobs if self._scheduler.withdraw(job)]
            turn = self._scheduler.take(self._clock())
        for job in withdrawn:
            self._observer.dropped(DropReason.CANCELLED)
            self._settle(job, Cancelled("cancelled in the queue"))
        for job in turn.expired:
            self._observer.dropped(DropReason.DEADLINE)
            self._settle(job, DeadlineExceeded("the deadline passed in the queue"))
        return turn

    def _shared_out(self, turn: Turn[Job]) -> dict[Lane, list[Batch[Job]]]:
        """What each lane is to encode: every sentence goes to the lane with the fewest."""
        shares: dict[Lane, list[Batch[Job]]] = {}
        beams = {batch.beam for batch in turn.batches}
        for batch in turn.batches:
            try:
                lanes = [self._lane(batch.beam, worker, beams) for worker in range(self._limits.workers)]
            except Exception as error:
                self._failed("making a grid failed", batch.keys, error)
                continue
            loads = {lane: len(lane.jobs) + sum(len(part.keys) for part in shares.get(lane, ())) for lane in lanes}
            parts: dict[Lane, list[Job]] = {}
            for job in batch.keys:
                lane = min(loads, key=loads.__getitem__)
                loads[lane] += 1
                parts.setdefault(lane, []).append(job)
            for lane, jobs in parts.items():
                lengths = [len(job.sentence.source) for job in jobs]
                shares.setdefault(lane, []).append(Batch.of(batch.beam, jobs, lengths))
        return shares

    def _work(self, shares: Mapping[Lane, Sequence[Batch[Job]]]) -> None:
        """Lets all lanes that have something to do take a turn, and publishes what came of it."""
        lanes = [lane for lane in self._lanes.values() if lane.jobs or lane in shares]
        batches = [shares.get(lane, ()) for lane in lanes]
        apply = map if self._workers is None or len(lanes) == 1 else self._workers.map
        for lane, turn in zip(lanes, apply(Lane.turn, lanes, batches), strict=True):
            self._conclude(lane, turn)

    def _conclude(self, lane: Lane, turn: LaneTurn) -> None:
        for jobs, error in turn.refused:
            self._failed("encoder batch failed", jobs, error)
        if turn.broken is not None:
            self._tear_down(lane, "decoder step failed", turn.broken)
        elif turn.stepped:
            self._failures = 0
        for job, result in turn.ended:
            if isinstance(result, DragomanError):
                _LOG.error("request %s: %s", job.sentence.request_id, result)
                self._release(job, result)
            else:
                self._release(job, Decoded(tuple(result), job.accepted, job.admitted, self._clock()))

    def _lane(self, beam: int, worker: int, wanted: Container[int]) -> Lane:
        """The lane of a beam size and worker; a new one takes the place of idle ones of beam sizes not wanted now."""
        lane = self._lanes.pop((beam, worker), None)
        if lane is None:
            idle = [key for key, other in self._lanes.items() if not other.jobs and other.beam not in wanted]
            for key in idle[: max(0, len(idle) - self._limits.idle_lanes * self._limits.workers)]:
                del self._lanes[key]
            lane = Lane(
                self._runner,
                beam,
                self._limits.slots(beam),
                special_ids=self._special_ids,
                vocabulary_size=self._vocabulary_size,
                observer=self._observer,
                clock=self._clock,
            )
        self._lanes[beam, worker] = lane
        return lane

    def _tear_down(self, lane: Lane, what: str, error: Exception) -> None:
        """Gives up a lane: its state cannot be trusted, and the next sentence gets a new grid."""
        self._lanes = {key: other for key, other in self._lanes.items() if other is not lane}
        jobs, lane.jobs = lane.jobs, []
        self._failed(what, jobs, error)
        self._observer.restarted()

    def _failed(self, what: str, jobs: Sequence[Job], error: Exception) -> None:
        """Ends jobs with an exception, which is logged once and shown to nobody."""
        self._failures += 1
        ids = sorted({job.sentence.request_id for job in jobs})
        _LOG.error("engine %s: %s, requests %s", self._name, what, ", ".join(ids), exc_info=error)
        for job in jobs:
            self._release(job, EngineFailure(what))

    def _release(self, job: Job, outcome: Decoded | DragomanError) -> None:
        with self._changed:
            self._scheduler.release(job)
        self._settle(job, outcome)

    def _settle(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """Ends an accepted sentence; the one place where that happens."""
        try:
            if isinstance(outcome, Decoded):
                best = outcome.hypotheses[0]
                self._observer.finished(Outcome.OK, best.finish_reason, len(best.tokens))
            else:
                self._observer.finished(_OUTCOMES[type(outcome)], None, 0)
        finally:
            job.submission.settle(job.index, outcome)
            with self._changed:
                self._unsettled.remove(job)
                if not self._unsettled:
                    self._changed.notify_all()
