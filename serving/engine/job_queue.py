"""The queue between callers and workers, which accounts for every accepted sentence until its end.

Every accepted sentence ends exactly once: decoded, or with an error, also when a step fails, the engine stops, or a
worker dies.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum

from serving.engine.lane import Clock
from serving.engine.observer import DropReason, EngineObserver, EngineSnapshot, Outcome, RejectReason
from serving.engine.quarantine import Quarantine, Verdict
from serving.engine.scheduler import Demand, EngineLimits, Scheduler, Turn
from serving.engine.submission import Decoded, Job, Submission
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    DragomanError,
    EngineFailure,
    Overloaded,
    Quarantined,
    Unavailable,
)

_RETRY_SECONDS = (0.1, 30.0)  # shortest and longest advice to a caller
_OUTCOMES: dict[type[DragomanError], Outcome] = {
    Cancelled: Outcome.CANCELLED,
    DeadlineExceeded: Outcome.DEADLINE,
    EngineFailure: Outcome.FAILURE,
    Unavailable: Outcome.STOPPED,
}


class QueuePhase(IntEnum):
    """The life of a queue, which only moves forward."""

    RUNNING = 0
    DRAINING = 1  # new work is refused, accepted work goes on
    STOPPING = 2  # workers end after their current steps
    CLOSED = 3  # everything that was accepted has ended


class JobQueue:
    """Sentences on their way from callers to workers and to their end; safe to use from any thread.

    Attributes:
        cancellations: How many submissions were cancelled while some of their sentences had not ended. Workers compare
            it with what they last saw, so that they look for cancelled sentences only after it has grown.
    """

    def __init__(self, limits: EngineLimits, observer: EngineObserver, name: str, clock: Clock) -> None:
        """Start empty."""
        self._limits, self._observer, self._name, self._clock = limits, observer, name, clock
        self._changed = threading.Condition()  # guards what follows
        self._scheduler: Scheduler[Job] = Scheduler(limits)
        self._quarantine = Quarantine()
        self._unsettled: set[Job] = set()
        self._settling = 0
        self._phase = QueuePhase.RUNNING
        self.cancellations = 0

    @property
    def closed(self) -> bool:
        """Whether everything has ended and nothing more is accepted."""
        return self._phase is QueuePhase.CLOSED

    def snapshot(self, *, lanes: int, state_bytes: int, worker_bytes: int, healthy: bool) -> EngineSnapshot:
        """Return what waits and runs now, together with what only the workers know."""
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
                worker_bytes=worker_bytes,
                draining=self._phase is not QueuePhase.RUNNING,
                healthy=healthy,
            )

    def check(self, sentences: int, tokens: int, deadline: float | None, priority: int) -> None:
        """Refuse what :meth:`submit` would refuse anyway, before work is spent on it.

        Args:
            sentences: To count as refused.
            tokens: Of the longest one, at least.
            deadline: Of all, in the clock's seconds.
            priority: Of all.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: The deadline has passed, or cannot be met.
        """
        with self._changed:
            reason = self._phase_refuses() or self._scheduler.refuses(tokens, deadline, priority, self._clock())
            retry_after = self._scheduler.wait_estimate() or 1.0
        if reason is not None:
            self._observer.rejected(sentences, reason)
            raise self._refusal(reason, retry_after)

    def submit(self, submission: Submission) -> None:
        """Accept all of a submission's sentences, or none.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
            Quarantined: A sentence has made the engine fail twice.
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
        raise self._refusal(reason, retry_after)

    def _refuse(self, submission: Submission) -> RejectReason | None:
        if reason := self._phase_refuses():
            return reason
        now = self._clock()
        verdicts = [self._quarantine.verdict(job.sentence, now) for job in submission.jobs]
        if Verdict.REFUSED in verdicts:
            return RejectReason.QUARANTINED
        items = zip(submission.jobs, verdicts, strict=True)
        return self._scheduler.submit([(job, _demand(job, verdict)) for job, verdict in items], now)

    def _phase_refuses(self) -> RejectReason | None:
        if self._phase >= QueuePhase.STOPPING:
            return RejectReason.STOPPED
        return RejectReason.DRAINING if self._phase is QueuePhase.DRAINING else None

    def _refusal(self, reason: RejectReason, retry_after: float) -> DragomanError:
        limits = self._limits
        retry_after = min(max(retry_after, _RETRY_SECONDS[0]), _RETRY_SECONDS[1])
        match reason:
            case RejectReason.DEADLINE:
                message = "the deadline cannot be met by this server now; allow more time, or try again later"
                return DeadlineExceeded(message, retry_after=retry_after)
            case RejectReason.QUARANTINED:
                return Quarantined()
            case RejectReason.DRAINING | RejectReason.STOPPED:
                message = f"model {self._name} takes no more work here; try another server"
                return Unavailable(message, reason=reason.value, retry_after=retry_after)
            case RejectReason.QUEUE_FULL:
                message = f"the queue holds {limits.queue_sentences} sentences at most; try again later"
            case RejectReason.TOKENS_FULL:
                message = f"the queue holds {limits.queue_tokens} source tokens at most; try again later"
        return Overloaded(message, reason=reason.value, retry_after=retry_after)

    def cancel(self, submission: Submission) -> None:
        """Mark a submission as cancelled and drop those of its sentences that wait; workers drop those that run."""
        with self._changed:
            if self.closed or submission.cancelled:
                return
            now = submission.cancelled_at = self._clock()
            if submission.late(now):  # a caller's deadline arrives as a cancellation
                self._scheduler.missed(now)
            self.cancellations += 1  # after the mark: whoever sees the new count finds it
            dropped = [job for job in submission.jobs if self._scheduler.cancel(job)]
            if dropped:
                self._changed.notify_all()  # what was behind them may be first now
        for job in dropped:
            self._observer.dropped(DropReason.CANCELLED)
            self._settle(job, Cancelled("cancelled in the queue"))

    def drain(self) -> None:
        """Refuse new work from now on; accepted work goes on."""
        self._advance(QueuePhase.DRAINING)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all accepted work has ended; return False if ``timeout`` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._unsettled or self._settling), timeout)

    def stop(self) -> None:
        """Let every worker end after its current step."""
        self._advance(QueuePhase.STOPPING)

    def _advance(self, phase: QueuePhase) -> None:
        with self._changed:
            self._phase = max(self._phase, phase)
            self._changed.notify_all()

    # What follows is for workers.

    def wait(self, worker: int, busy: bool) -> bool:
        """Wait until a worker has something to do, which a busy one always has; return False when it is to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: busy or self._phase >= QueuePhase.STOPPING or self._scheduler.has_work(worker)
            )
            return self._phase < QueuePhase.STOPPING

    def schedule(self, worker: int) -> Turn[Job]:
        """Return what a worker is to begin; what is too late leaves the queue."""
        with self._changed:
            turn = self._scheduler.schedule(self._clock(), worker)
        for job in turn.expired:
            self._observer.dropped(DropReason.DEADLINE)
            self._settle(job, DeadlineExceeded("the deadline passed in the queue, or was too near to be met"))
        return turn

    def finish(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """End a sentence that a worker had begun."""
        with self._changed:
            if not self.closed:
                self._scheduler.finish(job)
                if isinstance(outcome, DeadlineExceeded):
                    self._scheduler.missed(self._clock())
                if isinstance(outcome, Decoded):
                    self._scheduler.decoded(len(job.sentence.source), outcome.finished - outcome.admitted)
                    self._quarantine.acquit(job.sentence)
                self._changed.notify_all()  # what did not fit beside it may fit now
        self._settle(job, outcome)

    def accuse(self, jobs: Iterable[Job], *, systematic: bool) -> None:
        """Note that a lane failed with these sentences in it; a systematic failure is no sentence's fault."""
        with self._changed:
            if systematic:
                self._quarantine = Quarantine()
            else:
                self._quarantine.accuse([job.sentence for job in jobs], self._clock())

    def running_on(self, worker: int) -> Sequence[Job]:
        """Return what a worker has begun and not ended."""
        with self._changed:
            return [job for job, _ in self._scheduler.running_on(worker)]

    def close(self, error: DragomanError) -> None:
        """End everything that was accepted and has not ended; workers end when they next ask for work."""
        with self._changed:
            self._phase = QueuePhase.CLOSED
            self._scheduler = Scheduler(self._limits)
            unsettled = list(self._unsettled)
            self._changed.notify_all()
        for job in unsettled:
            with suppress(Exception):  # an observer that raises must not keep the others waiting
                self._settle(job, error)

    def _settle(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """End an accepted sentence; the one place where that happens."""
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


def _demand(job: Job, verdict: Verdict) -> Demand:
    demand = job.sentence.demand()
    return replace(demand, alone=True) if verdict is Verdict.ALONE else demand
