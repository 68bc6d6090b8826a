"""A worker: a thread that encodes, steps and publishes, for the sentences it took from the queue.

Each round: drop what was cancelled or is late, begin what the scheduler gives, encode it, let every busy lane step
once, publish what ended. Sentences join and leave at any round. Workers of an engine share its queue and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager

from serving.engine.lane import Lane
from serving.engine.scheduler import EncoderBatch
from serving.engine.submission import Decoded, Job
from serving.engine.workers import UNHEALTHY_FAILURES, Surroundings, WorkQueue
from serving.errors import Cancelled, DeadlineExceeded, DragomanError, EngineFailure, Unavailable
from serving.step import Ints

_LOG = logging.getLogger(__name__)
_RENEWING_FAILURES = 2  # in a row


class _AbandonedError(BaseException):
    """The worker has been given up."""


class Worker:
    """One thread and its lanes.

    Attributes:
        failures: Runs of the model that failed, or did not come back, since the last good step.
        state_bytes: Held for memory and state by its lanes.
        resident_bytes: It has no process of its own.
    """

    def __init__(
        self,
        number: int,
        queue: WorkQueue,
        surroundings: Surroundings,
        make_lane: Callable[[int], Lane],
        renew: Callable[[], None],
        failures: int = 0,
    ) -> None:
        """Prepare the thread without starting it.

        Args:
            number: Among the workers of the engine.
            queue: Where work comes from.
            surroundings: Of all workers of the engine.
            make_lane: Makes the lane of a beam size.
            renew: Loads the model again, for lanes to come.
            failures: Of the worker whose place it takes.
        """
        self._number, self._queue, self._make_lane = number, queue, make_lane
        self._idle_lanes, self._name = surroundings.limits.idle_lanes, surroundings.name
        self._observer, self._clock = surroundings.observer, surroundings.clock
        self._lanes: dict[int, Lane] = {}  # by beam size, least recently used first; changed by the thread only
        self._cancellations = 0  # of the queue, when this worker last looked for cancelled sentences
        self._renew = renew
        self._running = threading.Lock()  # guards the two that follow
        self._since: tuple[float, int] | None = None  # when a run of the model began, and its beam size
        self._abandoned = False
        self.failures = failures
        self.state_bytes = self.resident_bytes = 0
        self._thread = threading.Thread(target=self._run, name=f"engine-{self._name}-{number}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def lanes(self) -> int:
        """The number of lanes that exist."""
        return len(self._lanes)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def abandon(self, seconds: float) -> frozenset[int]:
        """Give up on a run of the model that takes more than ``seconds``; the thread ends if it ever comes back.

        Returns:
            The beam size of that run; empty if there is none.
        """
        with self._running:
            if self._abandoned or self._since is None or self._clock() - self._since[0] <= seconds:
                return frozenset()
            self._abandoned = True
            return frozenset({self._since[1]})

    # What follows runs on the thread.

    @contextmanager
    def _watched(self, beam: int) -> Iterator[None]:
        """Let the watchdog see that the model runs.

        Raises:
            _AbandonedError: It has taken so long that another worker is in place of this one.
        """
        self._since = self._clock(), beam
        try:
            yield
        finally:
            with self._running:
                self._since = None
                if self._abandoned:
                    raise _AbandonedError

    def _run(self) -> None:
        error: DragomanError = EngineFailure("the engine's thread died")
        try:
            while self._round():
                pass
            error = Unavailable("the server is stopping; try another one", reason="stopped", retry_after=1.0)
        except _AbandonedError:
            _LOG.warning("engine %s: a run of the model came back after it was given up", self._name)
            return
        except BaseException:
            _LOG.critical("engine %s died", self._name, exc_info=True)
        finally:
            self._lanes.clear()
            if not self._abandoned:
                self._queue.close(error)

    def _round(self) -> bool:
        """Run one round; return False when the worker is to end."""
        busy = any(lane.jobs for lane in self._lanes.values())
        if not self._queue.wait(self._number, busy):
            return False
        self._drop()
        turn = self._queue.schedule(self._number)
        for batch in turn.batches:
            self._encode(batch, {batch.beam for batch in turn.batches})
        for lane in [lane for lane in self._lanes.values() if lane.jobs]:
            self._step(lane)
        self.state_bytes = sum(lane.nbytes for lane in self._lanes.values())
        return True

    def _drop(self) -> None:
        """Free the slots of sentences that nobody waits for any more."""
        seen, self._cancellations = self._cancellations, self._queue.cancellations
        now = self._clock()
        for lane in list(self._lanes.values()):
            if seen != self._cancellations:
                for job in self._free(lane, lane.cancelled()):
                    self._observer.freed(lane.steps_since(job.submission.cancelled_at))
                    self._queue.finish(job, Cancelled("cancelled while decoding"))
            for job in self._free(lane, lane.late(now)):
                self._queue.finish(job, DeadlineExceeded("the deadline passed while decoding"))

    def _free(self, lane: Lane, slots: Ints) -> list[Job]:
        try:
            return lane.free(slots) if slots.size else []
        except Exception as error:
            self._tear_down(lane, "freeing slots failed", error)
            return []

    def _encode(self, batch: EncoderBatch[Job], wanted: Container[int]) -> None:
        try:
            lane = self._lane(batch.beam, wanted)
        except Exception as error:
            self._failed("making a grid failed", batch.keys, error)
            return
        started = self._clock()
        try:
            with self._watched(batch.beam):
                lane.admit(batch.keys)
        except Exception as error:
            self._failed("encoder batch failed", batch.keys, error)
            return
        self._observer.encoded(self._clock() - started, len(batch.keys), batch.tokens, batch.padding)

    def _lane(self, beam: int, wanted: Container[int]) -> Lane:
        """Return the lane of a beam size; a new one takes the place of idle ones that are not wanted now."""
        lane = self._lanes.pop(beam, None)
        if lane is None:
            idle = [other for other, held in self._lanes.items() if not held.jobs and other not in wanted]
            for least in idle[: max(0, len(idle) - self._idle_lanes)]:
                del self._lanes[least]
            lane = self._make_lane(beam)
        self._lanes[beam] = lane
        return lane

    def _step(self, lane: Lane) -> None:
        try:
            with self._watched(lane.beam):
                ended = lane.step()
        except Exception as error:
            self._tear_down(lane, "decoder step failed", error)
            return
        self.failures = 0
        for job, result in ended:
            if isinstance(result, DragomanError):
                _LOG.error("request %s: %s", job.sentence.request_id, result)
                self._queue.finish(job, result)
            else:
                attention = None if job.attention is None else job.attention[: len(result[0].tokens)]
                decoded = Decoded(
                    tuple(result), job.accepted, job.admitted, self._clock(), job.encoded, attention=attention
                )
                self._queue.finish(job, decoded)

    def _tear_down(self, lane: Lane, what: str, error: Exception) -> None:
        """Give up a lane: its state cannot be trusted, and the next sentence gets a new grid."""
        self._lanes = {key: other for key, other in self._lanes.items() if other is not lane}
        jobs, lane.jobs = lane.jobs, []
        self._failed(what, jobs, error)
        self._observer.restarted()

    def _failed(self, what: str, jobs: Sequence[Job], error: Exception) -> None:
        """End jobs with an exception, which is logged once and shown to nobody."""
        self.failures += 1
        self._queue.accuse(jobs, systematic=self.failures >= UNHEALTHY_FAILURES)
        ids = sorted({job.sentence.request_id for job in jobs})
        _LOG.error("engine %s: %s, requests %s", self._name, what, ", ".join(ids), exc_info=error)
        for job in jobs:
            self._queue.finish(job, EngineFailure(what))
        if self.failures == _RENEWING_FAILURES:  # the first may have been a sentence's own fault
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane.jobs}
            self._renew()
