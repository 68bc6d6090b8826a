"""``python -m serving.engine.worker_process CONNECTION LIFELINE``: a worker in a process that its engine started.

See :mod:`serving.engine.processes` for the other side. The main thread ends the process when the engine is gone,
whatever the worker's thread does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from serving.engine.observer import EngineObserver
from serving.engine.scheduler import EncoderBatch, Turn
from serving.engine.submission import Decoded, Job, Submission
from serving.engine.threads import Threads
from serving.engine.worker import Worker
from serving.engine.worker_messages import OF_SENTENCES, Orders, Start, Task, WorkerReport
from serving.engine.workers import Surroundings
from serving.errors import DragomanError, StartupError
from serving.runtime.memory import resident_bytes

# Between two reports of nothing but steps. Steps of a single sentence take less, and telling of each would cost a tenth
# of them; yet what waits for a place learns of one only by a report.
_REPORT_SECONDS = 0.005
_MEMORY_SECONDS = 1.0  # between two looks at the size of the process
# Workers keep the cores busy, and the server needs them for moments: it must not wait, since a call that nobody has
# looked at cannot be refused and grows old. The workers get all of what is left.
_NICENESS = 10


class _Told(EngineObserver):
    """Reports to the engine what a worker tells its observer."""

    def __init__(self, queue: _Queue) -> None:
        self._tell = queue.tell

    def admitted(self, queue_seconds: float) -> None:
        self._tell("admitted", queue_seconds)

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        self._tell("encoded", seconds, sources, tokens, padding)

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        self._tell("stepped", seconds, host_seconds, slots, beam)

    def first_token(self, seconds: float) -> None:
        self._tell("first_token", seconds)

    def freed(self, steps: int) -> None:
        self._tell("freed", steps)

    def restarted(self) -> None:
        self._tell("restarted")


@dataclass
class _Listener:
    """Reports the tokens of one sentence."""

    queue: _Queue

    def grew(self, index: int, tokens: Sequence[tuple[int, int]]) -> None:
        self.queue.tell("grew", index, list(tokens))

    def ended(self, index: int, decoded: Decoded) -> None:
        """Report nothing: the end of a sentence is reported anyway."""


class _Queue:
    """The engine's queue as its worker sees it: orders come in, and reports on what happened go out between rounds.

    Attributes:
        cancellations: Orders to cancel so far.
        worker: Whose state is reported.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection, self._poll = connection, select.poll()
        self._poll.register(connection, select.POLLIN)
        self._jobs: dict[int, Job] = {}
        self._batches = list[EncoderBatch[Job]]()
        self.cancellations = 0
        self.worker: Worker | None = None
        self._events = list[tuple[str, tuple[Any, ...]]]()
        self._urgent, self._reported = False, 0.0
        self._resident, self._resident_at = 0, -_MEMORY_SECONDS

    def tell(self, name: str, *arguments: object) -> None:
        """Put something into the next report."""
        self._events.append((name, arguments))
        self._urgent |= name in OF_SENTENCES

    def wait(self, worker: int, busy: bool) -> bool:
        """Report on the rounds that have ended, and take orders, which one that is not busy waits for."""
        try:
            if self._events and (not busy or self._urgent or time.monotonic() - self._reported >= _REPORT_SECONDS):
                self._report()
            while self._poll.poll(0) or not (busy or self._batches):
                self._take(self._connection.recv())
        except (EOFError, OSError):  # nobody is there
            os._exit(0)
        return True

    def schedule(self, worker: int) -> Turn[Job]:
        """Return what was ordered."""
        batches, self._batches = self._batches, []
        return Turn((), tuple(batches))

    def finish(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """Report the end of a sentence."""
        del self._jobs[job.index]
        self.tell("finish", job.index, outcome)

    def accuse(self, jobs: Iterable[Job], *, systematic: bool) -> None:
        """Report that a lane failed."""
        self.tell("accuse", [job.index for job in jobs], systematic)

    def close(self, error: DragomanError) -> None:
        """End the process: its worker has failed, as the log says."""
        os._exit(1)

    def _take(self, orders: Orders) -> None:
        self._batches += map(self._begun, orders.batches)
        for key, moment in orders.cancelled:
            if job := self._jobs.get(key):  # else it has ended, and the engine will hear of it
                job.submission.cancelled_at = moment
                self.cancellations += 1

    def _begun(self, batch: EncoderBatch[Task]) -> EncoderBatch[Job]:
        jobs = tuple(self._job(task) for task in batch.keys)
        return EncoderBatch(batch.beam, jobs, batch.tokens, batch.padding)

    def _job(self, task: Task) -> Job:
        # Each is a submission of its own, whose only sentence has the number by which the engine knows it.
        submission = Submission(lambda _: None, _Listener(self) if task.streams else None)
        job = self._jobs[task.key] = Job(task.sentence, submission, task.key, task.accepted)
        return job

    def _report(self) -> None:
        assert self.worker is not None
        now = time.monotonic()
        if now - self._resident_at >= _MEMORY_SECONDS:
            self._resident, self._resident_at = resident_bytes(), now
        self._urgent, self._reported = False, now
        worker, events, self._events = self.worker, tuple(self._events), []
        self._connection.send(WorkerReport(events, worker.lanes, worker.failures, worker.state_bytes, self._resident))


def main(descriptor: int, lifeline: int) -> None:
    """Work for the engine at the other end of a connection until it closes the lifeline, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # of a whole group of processes: the engine decides when to end
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    threading.Thread(target=_work, args=[Connection(descriptor)], daemon=True).start()
    os.read(lifeline, 1)
    os._exit(0)  # without waiting for a run of the model


def _work(connection: Connection[Any, Any]) -> None:
    try:
        start: Start = connection.recv()
        if start.set_up:
            start.set_up()
        try:
            threads = Threads(start.open_runner(), start.open_runner)
        except StartupError as error:
            connection.send(str(error))
            return
        queue = _Queue(connection)
        surroundings = Surroundings(start.name, start.limits, _Told(queue), time.monotonic, lambda _: None)
        queue.worker = threads.worker(start.number, queue, surroundings, start.failures)
        connection.send("")
        queue.worker.start()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
