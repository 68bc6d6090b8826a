"""The engine: decodes sentences of one model, with one worker or several over one queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Self

from serving.engine.job_queue import JobQueue
from serving.engine.lane import Clock, Lane
from serving.engine.observer import EngineObserver, EngineSnapshot
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Listener, Sentence, Submission
from serving.engine.watchdog import Watchdog
from serving.engine.worker import UNHEALTHY_FAILURES, Worker
from serving.errors import EngineFailure
from serving.runtime.runner import Runner

_LOG = logging.getLogger(__name__)


class Engine:
    """The workers of one model and the queue they share.

    Safe to use from any thread; as a context manager, it stops at the end of the block.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        name: str = "model",
        clock: Clock = time.monotonic,
        reopen: Callable[[], Runner] | None = None,
    ) -> None:
        """Start the workers; end them with :meth:`stop`. ``reopen`` loads the model again when it fails or hangs."""
        self._limits, self._observer = limits or EngineLimits(), observer or EngineObserver()
        self._runner, self._reopen, self._name, self._clock = runner, reopen, name, clock
        self._queue = JobQueue(self._limits, self._observer, name, clock)
        self._workers = [self._worker(number) for number in range(self._limits.workers)]
        seconds = self._limits.run_seconds
        self._watchdog = Watchdog(self._replace_hung, seconds, name) if seconds else None
        for worker in self._workers:
            worker.start()
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

    def _worker(self, number: int, failures: int = 0) -> Worker:
        limits, observer, clock = self._limits, self._observer, self._clock

        def make_lane(beam: int) -> Lane:
            return Lane(self._runner, beam, limits.slots(beam), observer=observer, clock=clock)

        return Worker(
            number, self._queue, make_lane, idle_lanes=limits.idle_lanes, observer=observer, name=self._name,
            clock=clock, renew=self._renew, failures=failures,
        )  # fmt: skip

    def _renew(self) -> None:
        """Load the model again, for lanes to come; if that fails, the old one stays."""
        if self._reopen is None:
            return
        try:
            self._runner = self._reopen()
        except Exception:
            _LOG.exception("engine %s: the model could not be loaded again", self._name)

    def _replace_hung(self) -> None:
        """Put another worker in place of each whose run of the model does not come back, and end its sentences.

        Those of the lane that hangs are suspects. A thread cannot be killed: it keeps what it has until it comes back.
        """
        seconds = self._limits.run_seconds
        for number, worker in enumerate(self._workers):
            if (beam := worker.abandon(seconds)) is None:
                continue
            jobs = self._queue.running_on(number)
            ids = ", ".join(sorted({job.sentence.request_id for job in jobs}))
            _LOG.critical("engine %s: a run of the model takes more than %g s, requests %s", self._name, seconds, ids)
            suspects = [job for job in jobs if job.sentence.options.beam_size == beam]
            self._queue.accuse(suspects, systematic=worker.failures + 1 >= UNHEALTHY_FAILURES)
            for job in jobs:
                self._queue.finish(job, EngineFailure("a run of the model took too long"))
            self._observer.restarted()
            self._renew()
            replacement = self._worker(number, worker.failures + 1)
            replacement.start()  # before it is seen: a worker whose thread does not run is not healthy
            self._workers[number] = replacement
