"""Sentences on their way through the engine: what goes in, what comes out, and who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.scheduler import Demand
from serving.errors import DragomanError
from serving.step import Ints


@dataclass(frozen=True, eq=False)
class Sentence:
    """One sentence to decode.

    Attributes:
        source: Token ids as the model reads them, the end token included. Shape (src,), int64.
        options: Already validated.
        deadline: ``time.monotonic()`` value after which nobody waits for it, or None.
        priority: Higher goes first.
        request_id: For the log.
    """

    source: Ints
    options: DecodingOptions
    deadline: float | None = None
    priority: int = 0
    request_id: str = ""

    def demand(self) -> Demand:
        """Its sizes, for the scheduler."""
        source, options = len(self.source), self.options
        state = source + options.beam_size * (options.max_length + 1)
        return Demand(options.beam_size, source, state, self.priority, self.deadline)


@dataclass(frozen=True)
class Decoded:
    """A decoded sentence.

    Attributes:
        hypotheses: Best first, at least one.
        accepted: When it entered the queue, ``time.monotonic()`` seconds.
        admitted: When its encoding began.
        finished: When its last step was done.
    """

    hypotheses: tuple[FinishedHypothesis, ...]
    accepted: float
    admitted: float
    finished: float


@dataclass(eq=False)
class Job:
    """A sentence inside the engine; ``steps_at_cancel`` are its lane's steps when its cancellation was asked for."""

    sentence: Sentence
    submission: Submission
    index: int
    accepted: float
    admitted: float = 0.0
    steps_at_cancel: int | None = None


@dataclass(eq=False)
class Submission:
    """Sentences submitted together: all are accepted or none, and the first failure ends the rest.

    Attributes:
        future: The decoded sentences in order, or the first error. It cannot be cancelled; use :meth:`cancel`.
        jobs: Its sentences inside the engine.
        cancelled: Nobody waits for what has not ended; set by the engine.
    """

    on_cancel: Callable[[Submission], None]
    future: Future[tuple[Decoded, ...]] = field(default_factory=Future)
    jobs: tuple[Job, ...] = ()
    cancelled: bool = False
    _decoded: dict[int, Decoded] = field(default_factory=dict)
    _settling: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, sentences: Sequence[Sentence], now: float, on_cancel: Callable[[Submission], None]) -> Submission:
        """Wraps sentences accepted at ``now``."""
        submission = cls(on_cancel)
        submission.future.set_running_or_notify_cancel()  # now only settle() ends it
        submission.jobs = tuple(Job(sentence, submission, i, now) for i, sentence in enumerate(sentences))
        if not sentences:
            submission.future.set_result(())
        return submission

    def cancel(self) -> None:
        """Gives up on all of its sentences; the future ends with ``Cancelled`` unless it ended before."""
        if not self.future.done():
            self.on_cancel(self)

    def settle(self, index: int, outcome: Decoded | DragomanError) -> None:
        """Records how one sentence ended; from any thread, once for each."""
        with self._settling:
            if self.future.done():
                return
            if not isinstance(outcome, DragomanError):
                self._decoded[index] = outcome
                if len(self._decoded) == len(self.jobs):
                    self.future.set_result(tuple(self._decoded[i] for i in range(len(self.jobs))))
                return
            self.future.set_exception(outcome)
        self.on_cancel(self)
