"""The engine: decodes sentences of one model, with one worker or several over one queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Sequence
from typing import Self

from serving.engine.job_queue import JobQueue
from serving.engine.lane import Clock
from serving.engine.observer import EngineObserver, EngineSnapshot
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Listener, Sentence, Submission
from serving.engine.watchdog import Watchdog
from serving.engine.workers import UNHEALTHY_FAILURES, EngineWorker, Surroundings, WorkerKind
from serving.errors import EngineFailure, StartupError

_LOG = logging.getLogger(__name__)


class Engine:
    """The workers of one model and the queue they share.

    Safe to use from any thread; as a context manager, it stops at the end of the block.
    """

    def __init__(
        self,
        kind: WorkerKind,
        *,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        name: str = "model",
        clock: Clock = time.monotonic,
    ) -> None:
        """Start the workers; end them with :meth:`stop`.

        Raises:
            StartupError: A worker cannot load the model.
        """
        self._kind, self._name, self._clock = kind, name, clock
        self._limits, self._observer = limits or EngineLimits(), observer or EngineObserver()
        self._queue = JobQueue(self._limits, self._observer, name, clock)
        self._surroundings = Surroundings(name, self._limits, self._observer, clock, self._replace_dead)
        self._workers: list[EngineWorker] = [
            kind.worker(number, self._queue, self._surroundings) for number in range(self._limits.workers)
        ]
        seconds = self._limits.run_seconds
        self._watchdog = Watchdog(self._replace_hung, seconds, name) if seconds else None
        try:
            for worker in self._workers:
                worker.start()
        except BaseException:
            self.stop()
            raise
        if self._watchdog:
            self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def healthy(self) -> bool:
        """Whether all workers live and none's last steps all failed."""
        return not self._queue.closed and all(
            worker.alive and worker.failures < UNHEALTHY_FAILURES for worker in self._workers
        )

    def snapshot(self) -> EngineSnapshot:
        """Return the engine's gauges."""
        return self._queue.snapshot(
            lanes=sum(worker.lanes for worker in self._workers),
            state_bytes=sum(worker.state_bytes for worker in self._workers),
            worker_bytes=sum(worker.resident_bytes for worker in self._workers),
            healthy=self.healthy,
        )

    def check(self, sentences: int, tokens: int, deadline: float | None, priority: int) -> None:
        """Refuse a request that :meth:`submit` would refuse anyway, before work is spent on it.

        Args:
            sentences: About as many as it has.
            tokens: Of the source of the longest one, at least.
            deadline: Of all, in the clock's seconds.
            priority: Of all.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: The deadline has passed, or cannot be met.
        """
        self._queue.check(sentences, tokens, deadline, priority)

    def submit(self, sentences: Sequence[Sentence], listener: Listener | None = None) -> Submission:
        """Accept all of ``sentences``, or none, and return at once; ``listener`` hears of them while they are decoded.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
            Quarantined: A sentence has made the engine fail twice.
        """
        submission = Submission.of(sentences, self._clock(), self._queue.cancel, listener)
        self._queue.submit(submission)
        return submission

    def drain(self) -> None:
        """Refuse new work from now on; accepted work goes on."""
        self._queue.drain()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all accepted work has ended; return False if ``timeout`` seconds were not enough."""
        return self._queue.join(timeout)

    def stop(self, timeout: float | None = None) -> None:
        """End the workers after their current steps; work that has not ended gets ``Unavailable``."""
        if self._watchdog:
            self._watchdog.stop()
        self._queue.stop()
        for worker in self._workers:
            worker.join(timeout)

    def _replace_hung(self) -> None:
        """Replace each worker whose run of the model does not come back."""
        seconds = self._limits.run_seconds
        for number, worker in enumerate(self._workers):
            if suspects := worker.abandon(seconds):
                self._replace(number, suspects, f"a run of the model takes more than {seconds:g} s")

    def _replace_dead(self, number: int) -> None:
        """Replace a worker that ended by itself, such as a process without memory."""
        self._replace(number, None, "a worker died")

    def _replace(self, number: int, suspects: Container[int] | None, problem: str) -> None:
        """Put another worker in the place of one that is lost, and end its sentences.

        Args:
            number: Of the worker.
            suspects: Beam sizes of the sentences that may be to blame; None for all.
            problem: For the log.
        """
        worker, jobs = self._workers[number], self._queue.running_on(number)
        ids = ", ".join(sorted({job.sentence.request_id for job in jobs}))
        _LOG.critical("engine %s: %s, requests %s", self._name, problem, ids)
        accused = [job for job in jobs if suspects is None or job.sentence.options.beam_size in suspects]
        self._queue.accuse(accused, systematic=worker.failures + 1 >= UNHEALTHY_FAILURES)
        for job in jobs:
            self._queue.finish(job, EngineFailure(problem))
        self._observer.restarted()
        self._kind.renew(self._name)
        replacement = self._kind.worker(number, self._queue, self._surroundings, worker.failures + 1)
        try:
            replacement.start()  # before it is seen: a worker that does not run is not healthy
        except StartupError:
            _LOG.critical("engine %s: a worker cannot be replaced", self._name, exc_info=True)
            self._queue.close(EngineFailure("a worker could not be replaced"))
        self._workers[number] = replacement
