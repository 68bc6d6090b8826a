"""The engine: decodes sentences of one model, with one worker or several over one queue."""

from __future__ import annotations

import time
from collections.abc import Sequence

from serving.bundle.manifest import SpecialIds
from serving.engine.job_queue import JobQueue
from serving.engine.lane import Clock
from serving.engine.observer import EngineObserver, EngineSnapshot, SilentObserver
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Sentence, Submission
from serving.engine.worker import Worker
from serving.runtime.runner import Runner

_UNHEALTHY_FAILURES = 3  # of one worker in a row, without a good step between them


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
        """Starts the workers; end them with :meth:`stop`."""
        limits, observer = limits or EngineLimits(), observer or SilentObserver()
        self._clock = clock
        self._dispatcher = JobQueue(limits, observer, name, clock)
        self._workers = [
            Worker(
                number,
                self._dispatcher,
                runner,
                special_ids=special_ids,
                vocabulary_size=vocabulary_size,
                limits=limits,
                observer=observer,
                name=name,
                clock=clock,
            )
            for number in range(limits.workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def healthy(self) -> bool:
        """The workers live, and none's last steps all failed."""
        return not self._dispatcher.closed and all(
            worker.alive and worker.failures < _UNHEALTHY_FAILURES for worker in self._workers
        )

    def snapshot(self) -> EngineSnapshot:
        """The engine's gauges now."""
        return self._dispatcher.snapshot(
            lanes=sum(worker.lanes for worker in self._workers),
            state_bytes=sum(worker.state_bytes for worker in self._workers),
            healthy=self.healthy,
        )

    def submit(self, sentences: Sequence[Sentence]) -> Submission:
        """Accepts all of ``sentences``, or none. Returns at once.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
        """
        submission = Submission.of(sentences, self._clock(), self._cancel)
        self._dispatcher.submit(submission)
        return submission

    def _cancel(self, submission: Submission) -> None:
        if not submission.cancelled:
            for worker in self._workers:
                worker.mark(submission)
            self._dispatcher.cancel(submission)

    def drain(self) -> None:
        """Refuses new work from now on; accepted work goes on."""
        self._dispatcher.drain()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all accepted work has ended; False if ``timeout`` seconds were not enough."""
        return self._dispatcher.join(timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Ends the workers after their current steps; work that has not ended gets ``Unavailable``."""
        self._dispatcher.stop()
        for worker in self._workers:
            worker.join(timeout)
