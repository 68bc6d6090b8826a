"""The engine: decodes sentences of one model, with one worker or several over one queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from serving.engine.job_queue import JobQueue
from serving.engine.lane import Clock, Lane
from serving.engine.observer import EngineObserver, EngineSnapshot
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Listener, Sentence, Submission
from serving.engine.worker import Worker
from serving.runtime.runner import Runner

_UNHEALTHY_FAILURES = 3  # of one worker in a row, without a good step between them


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
    ) -> None:
        """Start the workers; end them with :meth:`stop`."""
        limits, observer = limits or EngineLimits(), observer or EngineObserver()

        def make_lane(beam: int) -> Lane:
            return Lane(runner, beam, limits.slots(beam), observer=observer, clock=clock)

        self._clock = clock
        self._queue = JobQueue(limits, observer, name, clock)
        self._workers = [
            Worker(
                number, self._queue, make_lane, idle_lanes=limits.idle_lanes, observer=observer, name=name, clock=clock
            )
            for number in range(limits.workers)
        ]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def healthy(self) -> bool:
        """Whether all workers live and none's last steps all failed."""
        return not self._queue.closed and all(
            worker.alive and worker.failures < _UNHEALTHY_FAILURES for worker in self._workers
        )

    def snapshot(self) -> EngineSnapshot:
        """Return the engine's gauges."""
        return self._queue.snapshot(
            lanes=sum(worker.lanes for worker in self._workers),
            state_bytes=sum(worker.state_bytes for worker in self._workers),
            healthy=self.healthy,
        )

    def submit(self, sentences: Sequence[Sentence], listener: Listener | None = None) -> Submission:
        """Accept all of ``sentences``, or none, and return at once; ``listener`` hears of them while they are decoded.

        Raises:
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining or has stopped.
            DeadlineExceeded: A deadline has passed, or cannot be met.
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
        self._queue.stop()
        for worker in self._workers:
            worker.join(timeout)
