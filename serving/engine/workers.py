"""What an engine and its workers know of each other, whether these are threads or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from serving.engine.lane import Clock
from serving.engine.observer import EngineObserver
from serving.engine.scheduler import EngineLimits, Turn
from serving.engine.submission import Decoded, Job
from serving.errors import DragomanError

UNHEALTHY_FAILURES = 3  # in a row: the model fails, whatever it is given


class WorkQueue(Protocol):
    """Where a worker gets its work from; see :class:`serving.engine.job_queue.JobQueue`."""

    @property
    def cancellations(self) -> int:
        """How many submissions were cancelled while some of their sentences had not ended."""

    def wait(self, worker: int, busy: bool) -> bool:
        """Wait until a worker has something to do, which a busy one always has; return False when it is to end."""

    def schedule(self, worker: int) -> Turn[Job]:
        """Return what a worker is to begin."""

    def finish(self, job: Job, outcome: Decoded | DragomanError) -> None:
        """End a sentence that a worker had begun."""

    def accuse(self, jobs: Iterable[Job], *, systematic: bool) -> None:
        """Note that a lane failed with these sentences in it; a systematic failure is no sentence's fault."""

    def close(self, error: DragomanError) -> None:
        """End everything that was accepted and has not ended."""


@dataclass(frozen=True)
class Surroundings:
    """What all workers of an engine share beside the queue.

    Attributes:
        name: Of the model.
        limits: Of the engine.
        observer: Is told of everything.
        clock: In seconds.
        died: Is told the number of a worker that ended and should not have.
    """

    name: str
    limits: EngineLimits
    observer: EngineObserver
    clock: Clock
    died: Callable[[int], None]


class EngineWorker(Protocol):
    """Encodes, steps and publishes, for the sentences it takes from the queue."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    @property
    def lanes(self) -> int:
        """The number of lanes that exist."""

    @property
    def failures(self) -> int:
        """Runs of the model that failed, or did not come back, since the last good step."""

    @property
    def state_bytes(self) -> int:
        """Bytes held for memory and state by its lanes."""

    @property
    def resident_bytes(self) -> int:
        """Bytes of main memory of its process, where it has one of its own."""

    def start(self) -> None:
        """Start to work.

        Raises:
            StartupError: The model cannot be loaded.
        """

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""

    def abandon(self, seconds: float) -> frozenset[int]:
        """Give up on a run of the model that takes more than ``seconds``.

        Returns:
            The beam sizes of the sentences that may be to blame; empty if there is no such run.
        """


class WorkerKind(Protocol):
    """Makes the workers of an engine."""

    def worker(self, number: int, queue: WorkQueue, surroundings: Surroundings, failures: int = 0) -> EngineWorker:
        """Make a worker that is not started yet.

        Args:
            number: Among the workers of the engine.
            queue: Where work comes from.
            surroundings: Of all workers.
            failures: Of the worker whose place it takes.
        """

    def renew(self, name: str) -> None:
        """Load the model again, for what is made from now on; if that fails, the old one stays."""
