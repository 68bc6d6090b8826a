"""What callers and workers share: the sentences that were accepted, from the queue to their end.

Every accepted sentence ends exactly once: decoded, or with an error, also when a step fails, the engine stops, or a
worker dies.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from serving.engine.lane import Clock
from serving.engine.observer import DropReason, EngineObserver, EngineSnapshot, Outcome, RejectReason
from serving.engine.scheduler import EngineLimits, Scheduler, Turn
from serving.engine.submission import Decoded, Job, Submission
from serving.errors import Cancelled, DeadlineExceeded, DragomanError, EngineFailure, Overloaded, Unavailable

_RETRY_SECONDS = (0.1, 30.0)  # shortest and longest advice to a caller
_OUTCOMES: dict[type[DragomanError], Outcome] = {
    Cancelled: Outcome.CANCELLED,
    DeadlineExceeded: Outcome.DEADLINE,
    EngineFailure: Outcome.FAILURE,
    Unavailable: Outcome.STOPPED,
}


class JobQueue:
    """Takes sentences from callers, hands them to workers, and settles them; safe to use from any thread."""

    def __init__(self, limits: EngineLimits, observer: EngineObserver, name: str, clock: Clock) -> None:
        """Starts empty."""
        self._limits, self._observer, self._name, self._clock = limits, observer, name, clock
        self._changed = threading.Condition()  # guards what follows
        self._scheduler: Scheduler[Job] = Scheduler(limits)
        self._cancelled: list[list[Submission]] = [[] for _ in range(limits.workers)]  # that each has not seen yet
        self._unsettled: set[Job] = set()
        self._settling = 0
        self._stopping = False
        self._draining = False
        self.closed = False

    def snapshot(self, *, lanes: int, state_bytes: int, healthy: bool) -> EngineSnapshot:
        """What waits and runs now, and what only the workers know."""
        with self._changed:
            scheduler = self._scheduler
            return EngineSnapshot(
                queue_depth=scheduler.queue_depth,
                queue_tokens=scheduler.queue_tokens,
                oldest_age_seconds=scheduler.oldest_age(self._clock()),
                running_slots=scheduler.running_slots,
                running_rows=scheduler.running_rows,
                running_tokens=scheduler.running_tokens,
                lanes=lanes,
                state_bytes=state_bytes,
                draining=self._draining,
                healthy=healthy,
            )

    def submit(self, submission: Submission) -> None:
        """Accepts all of a submission's sentences, or none.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
        """
        jobs = submission.jobs
        with self._changed:
            reason = self._refuse(submission)
            retry_after = self._scheduler.wait_estimate() or 1.0
            if reason is None:
                self._unsettled.update(jobs)
                self._observer.submitted(len(jobs), sum(len(job.sentence.source) for job in jobs))
                self._changed.notify_all()
                return
        self._observer.rejected(len(jobs), reason)
        raise self._refusal(reason, min(max(retry_after, _RETRY_SECONDS[0]), _RETRY_SECONDS[1]))

    def _refuse(self, submission: Submission) -> RejectReason | None:
        if self._stopping or self.closed:
            return RejectReason.STOPPED
        if self._draining:
            return RejectReason.DRAINING
        return self._scheduler.offer([(job, job.sentence.demand()) for job in submission.jobs], self._clock())

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

    def cancel(self, submission: Submission) -> None:
        """Lets every worker give up on a submission."""
        with self._changed:
            if self.closed or submission.cancelled:
                return
            submission.cancelled = True
            for unseen in self._cancelled:
                unseen.append(submission)
            self._changed.notify_all()

    def drain(self) -> None:
        """Refuses new work from now on; accepted work goes on."""
        with self._changed:
            self._draining = True

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all accepted work has ended; False if ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._unsettled or self._settling), timeout)

    def stop(self) -> None:
        """Lets every worker end after its current step."""
        with self._changed:
            self._draining = self._stopping = True
            self._changed.notify_all()

    # What follows is for workers.

    def wait(self, worker: int, busy: bool) -> list[Submission] | None:
        """Waits until a worker has something to do, which one that is busy always has.

        Returns:
            What was cancelled since it last asked; None when it is to end.
        """
        with self._changed:
            while not (self._stopping or self.closed or busy or self._cancelled[worker]):
                if self._scheduler.ready(worker):
                    break
                self._changed.wait()
            if self._stopping or self.closed:
                return None
            cancelled, self._cancelled[worker] = self._cancelled[worker], []
            return cancelled

    def take(self, worker: int, cancelled: Sequence[Submission]) -> Turn[Job]:
        """What a worker is to begin, after what was cancelled or is late has left the queue."""
        with self._changed:
            # Whoever cancelled since the worker last asked must not reach the encoder either.
            submissions = (*cancelled, *self._cancelled[worker])
            withdrawn = [job for one in submissions for job in one.jobs if self._scheduler.withdraw(job)]
            turn = self._scheduler.take(self._clock(), worker)
        for job in withdrawn:
            self._observer.dropped(DropReason.CANCELLED)
            self._settle(job, Cancelled("cancelled in the queue"))
        for job in turn.expired:
            self._observer.dropped(DropReason.DEADLINE)
            self._settle(job, DeadlineExceeded("the deadline passed in the queue"))
        return turn

    def release(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """Ends a sentence that a worker had taken."""
        with self._changed:
            if not self.closed:
                self._scheduler.release(job)
                self._changed.notify_all()  # what did not fit beside it may fit now
        self._settle(job, outcome)

    def close(self, error: DragomanError) -> None:
        """Ends everything that was accepted and has not ended; workers end when they next ask for work."""
        with self._changed:
            self.closed = True
            self._scheduler = Scheduler(self._limits)
            unsettled = list(self._unsettled)
            self._changed.notify_all()
        for job in unsettled:
            with suppress(Exception):  # an observer that raises must not keep the others waiting
                self._settle(job, error)

    def _settle(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """Ends an accepted sentence; the one place where that happens."""
        with self._changed:
            if job not in self._unsettled:  # the engine was closed meanwhile
                return
            self._unsettled.remove(job)
            self._settling += 1
        try:
            if isinstance(outcome, Decoded):
                best = outcome.hypotheses[0]
                self._observer.finished(Outcome.OK, best.finish_reason, len(best.tokens))
            else:
                self._observer.finished(_OUTCOMES[type(outcome)], None, 0)
        finally:
            job.submission.settle(job.index, outcome)
            with self._changed:
                self._settling -= 1
                if not (self._unsettled or self._settling):
                    self._changed.notify_all()
