"""Workers that are processes of their own: the search has a Python of its own, and a crash ends only its process.

The queue stays in this process. A thread for each worker sends it what the scheduler gives, and takes its reports, one
for each round. :mod:`serving.engine.worker_process` is the other side.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from serving.engine.scheduler import EncoderBatch, Turn
from serving.engine.submission import Decoded, Job
from serving.engine.worker_messages import OF_SENTENCES, Orders, Start, Task, WorkerReport
from serving.engine.workers import Surroundings, WorkQueue
from serving.errors import DragomanError, EngineFailure, StartupError, Unavailable
from serving.runtime.runner import Runner

_LOG = logging.getLogger(__name__)
_PROGRAM = "serving.engine.worker_process"
_STOP_SECONDS = 5.0  # for a process to end by itself


class Processes:
    """Makes them; see :class:`serving.engine.workers.WorkerKind`."""

    def __init__(self, open_runner: Callable[[], Runner], set_up: Callable[[], object] | None = None) -> None:
        """Have each process call ``set_up`` and load the model with ``open_runner``; both can be pickled."""
        self._open_runner, self._set_up = open_runner, set_up

    def worker(self, number: int, queue: WorkQueue, surroundings: Surroundings, failures: int = 0) -> WorkerProcess:
        """Start a process, which begins to load the model."""
        start = Start(self._set_up, self._open_runner, number, surroundings.name, surroundings.limits, failures)
        return WorkerProcess(start, queue, surroundings)

    def renew(self, name: str) -> None:
        """Do nothing: each new process loads the model."""


class WorkerProcess:
    """A process that encodes, steps and publishes; see :class:`serving.engine.workers.EngineWorker`.

    Attributes:
        lanes: That exist.
        failures: Runs of the model that failed, or did not come back, since the last good step.
        state_bytes: Held for memory and state by its lanes.
        resident_bytes: Main memory of the process.
    """

    def __init__(self, start: Start, queue: WorkQueue, surroundings: Surroundings) -> None:
        """Start the process, which begins to load the model."""
        self._number, self._name, self._queue = start.number, start.name, queue
        self._observer, self._clock, self._died = surroundings.observer, surroundings.clock, surroundings.died
        self.lanes = self.state_bytes = self.resident_bytes = 0
        self.failures = start.failures
        self._keys = itertools.count()
        self._jobs: dict[int, Job] = {}  # in the process, by the key of their task; changed by the thread only
        self._cancellations = 0  # of the queue, when it was last looked at
        self._heard = self._clock()  # last report, or first order after a pause
        self._lock = threading.Lock()  # guards the next, and is held while sentences begin and end
        self._abandoned = self._ending = False
        self._process, self._connection, self._lifeline = _spawn()
        with suppress(OSError):  # it has died: see start
            self._connection.send(start)
        self._thread = threading.Thread(target=self._run, name=f"engine-{self._name}-{self._number}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Wait until the model is loaded, and start the thread.

        Raises:
            StartupError: The model cannot be loaded.
        """
        try:
            problem = self._connection.recv()
        except (EOFError, OSError):
            problem = f"{self._name}: the process of a worker ended with status {self._process.wait()} while it loaded"
        if problem:
            raise StartupError(problem)
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, and end the process, which is killed if its step takes longer than that."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self._ending = True
                self._process.kill()
                self._thread.join()
        self._hang_up()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self, seconds: float) -> frozenset[int]:
        """Kill the process if no round has ended for more than ``seconds``; whatever it was decoding is suspect."""
        with self._lock:
            beams = frozenset(job.sentence.options.beam_size for job in self._jobs.values())
            if self._abandoned or not beams or self._clock() - self._heard <= seconds:
                return frozenset()
            self._abandoned = True
        self._process.kill()
        return beams

    def _hang_up(self) -> None:
        """Close both ends here, whereupon the process ends."""
        self._connection.close()
        self._lifeline.close()

    # What follows runs on the thread.

    def _run(self) -> None:
        error: DragomanError = Unavailable("the server is stopping; try another one", reason="stopped", retry_after=1.0)
        try:
            while self._queue.wait(self._number, bool(self._jobs)):
                if not self._begin() or (self._jobs and not self._hear(self._connection.recv())):
                    return
        except (EOFError, OSError):
            if not self._ending:
                self._lost()
                return
        except BaseException:
            _LOG.critical("engine %s died", self._name, exc_info=True)
            error = EngineFailure("the engine's thread died")
        finally:
            self._hang_up()
        self._queue.close(error)

    def _lost(self) -> None:
        """Have another worker take the place of the process, which has ended, unless that was the watchdog's doing."""
        with self._lock:
            abandoned, self._abandoned = self._abandoned, True
        status = self._process.wait()
        if not abandoned:
            _LOG.critical("engine %s: the process of a worker ended with status %d", self._name, status)
            self._died(self._number)

    # Whoever gives up the process ends its sentences: nothing more is begun or taken from it then.

    def _begin(self) -> bool:
        """Give the process what the scheduler has for it; return False if it has been given up."""
        with self._lock:
            if not self._abandoned:
                self._order(self._queue.schedule(self._number))
            return not self._abandoned

    def _hear(self, report: WorkerReport) -> bool:
        """Take a report; return False if the process has been given up."""
        with self._lock:
            if not self._abandoned:
                self._take(report)
            return not self._abandoned

    def _order(self, turn: Turn[Job]) -> None:
        batches = tuple(self._tasks(batch) for batch in turn.batches)
        cancelled = self._cancelled()
        if batches or cancelled:
            self._connection.send(Orders(batches, cancelled))

    def _tasks(self, batch: EncoderBatch[Job]) -> EncoderBatch[Task]:
        if not self._jobs:
            self._heard = self._clock()
        keys = list(itertools.islice(self._keys, len(batch.keys)))
        self._jobs.update(zip(keys, batch.keys, strict=True))
        tasks = tuple(
            Task(key, job.sentence, job.accepted, job.submission.listener is not None)
            for key, job in zip(keys, batch.keys, strict=True)
        )
        return EncoderBatch(batch.beam, tasks, batch.tokens, batch.padding)

    def _cancelled(self) -> tuple[tuple[int, float], ...]:
        """Return what is cancelled in the process, if more is than it was told."""
        seen, self._cancellations = self._cancellations, self._queue.cancellations
        if seen == self._cancellations:
            return ()
        ended = ((key, job.submission) for key, job in self._jobs.items() if job.submission.cancelled)
        return tuple((key, submission.cancelled_at) for key, submission in ended)

    def _take(self, report: WorkerReport) -> None:
        self._heard = self._clock()
        self.lanes, self.failures = report.lanes, report.failures
        self.state_bytes, self.resident_bytes = report.state_bytes, report.resident_bytes
        for name, arguments in report.events:
            tell: Callable[..., None] = getattr(self if name in OF_SENTENCES else self._observer, name)
            tell(*arguments)

    def finish(self, key: int, outcome: Decoded | DragomanError) -> None:
        """End a sentence."""
        self._queue.finish(self._jobs.pop(key), outcome)

    def accuse(self, keys: Sequence[int], systematic: bool) -> None:
        """Note that a lane failed with these sentences in it."""
        self._queue.accuse([self._jobs[key] for key in keys], systematic=systematic)

    def grew(self, key: int, tokens: Sequence[tuple[int, int]]) -> None:
        """Tell the listener of a sentence of more tokens."""
        job = self._jobs[key]
        if job.submission.listener:
            job.submission.listener.grew(job.index, tokens)


def _spawn() -> tuple[subprocess.Popen[bytes], Connection[Any, Any], socket.socket]:
    """Start a process; return it, a connection to it, and a socket whose closing ends it, also if this process dies."""
    ours, theirs = socket.socketpair()
    lifeline, end = socket.socketpair()
    with theirs, end:
        # It finds the modules where this one does, and not in the directory it happens to be started in.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        descriptors = theirs.fileno(), end.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            env=os.environ | {"PYTHONPATH": paths},
        )
    return process, Connection(ours.detach()), lifeline
