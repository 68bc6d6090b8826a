"""Sentences on their way through the engine: what goes in, what comes out, and the future between."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.scheduler import Demand
from serving.errors import DragomanError
from serving.step import Floats, Ints

_DEADLINE_SLACK = 0.05  # seconds: a caller's deadline arrives as a cancellation at about the moment it passes


@dataclass(frozen=True, eq=False)
class Sentence:
    """One sentence to decode.

    Attributes:
        source: Token ids as the model reads them, the end token included. Shape (src,), int64.
        options: Already validated.
        deadline: ``time.monotonic()`` value after which nobody waits for it, or None.
        priority: Higher goes first.
        request_id: For the log.
        attention: Whether to tell what it attends to; needs a beam size of 1.
    """

    source: Ints
    options: DecodingOptions
    deadline: float | None = None
    priority: int = 0
    request_id: str = ""
    attention: bool = False

    def demand(self) -> Demand:
        """Return its sizes, for the scheduler."""
        source, options = len(self.source), self.options
        state = source + options.beam_size * (len(options.start) + options.max_length + 1)
        return Demand(options.beam_size, source, state, self.priority, self.deadline)


@dataclass(frozen=True)
class Decoded:
    """A decoded sentence.

    Attributes:
        hypotheses: Best first, at least one.
        accepted: When it entered the queue, ``time.monotonic()`` seconds.
        admitted: When its encoding began.
        finished: When its last step was done.
        encoded: When its encoding ended.
        retried: Whether the hypotheses are those of a second try.
        attention: How much each token of the best hypothesis attends to each position of the source, where the sentence
            is to tell it. Shape (tgt, src).
    """

    hypotheses: tuple[FinishedHypothesis, ...]
    accepted: float
    admitted: float
    finished: float
    encoded: float = 0.0
    retried: bool = False
    attention: Floats | None = None


class Listener(Protocol):
    """Hears of a submission's sentences while they are decoded, on threads of the engine; must neither block nor raise.

    Sentences are named by their number in the submission.
    """

    def grew(self, index: int, tokens: Sequence[tuple[int, int]]) -> None:
        """Note tokens that follow those told before and are certain, each with the source position it attends to."""

    def ended(self, index: int, decoded: Decoded) -> None:
        """Note that a sentence is decoded."""


@dataclass(eq=False)
class Job:
    """A sentence inside the engine: number ``index`` of its submission.

    Attributes:
        attention: What it attends to at each step, if it is to tell that. Shape (max_length, src).
    """

    sentence: Sentence
    submission: Submission
    index: int
    accepted: float
    admitted: float = 0.0
    encoded: float = 0.0
    attention: Floats | None = None


@dataclass(eq=False)
class Submission:
    """Sentences submitted together: all are accepted or none, and the first failure ends the rest.

    Attributes:
        listener: Hears of its sentences before all are done, if there is one.
        future: The decoded sentences in order, or the first error. It cannot be cancelled; use :meth:`cancel`.
        jobs: Its sentences inside the engine.
        cancelled_at: ``time.monotonic()`` value since which nobody waits for what has not ended; infinity until then.
            Set by the engine.
    """

    on_cancel: Callable[[Submission], None]
    listener: Listener | None = None
    future: Future[tuple[Decoded, ...]] = field(default_factory=Future)
    jobs: tuple[Job, ...] = ()
    cancelled_at: float = math.inf
    _decoded: dict[int, Decoded] = field(default_factory=dict)
    _settling: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        sentences: Sequence[Sentence],
        now: float,
        on_cancel: Callable[[Submission], None],
        listener: Listener | None = None,
    ) -> Submission:
        """Wrap sentences accepted at ``now``."""
        submission = cls(on_cancel, listener)
        submission.future.set_running_or_notify_cancel()  # now only settle() ends it
        submission.jobs = tuple(Job(sentence, submission, i, now) for i, sentence in enumerate(sentences))
        if not sentences:
            submission.future.set_result(())
        return submission

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for what has not ended."""
        return self.cancelled_at < math.inf

    def late(self, now: float) -> bool:
        """Return whether the deadline of a sentence has passed, or is about to."""
        deadlines = (job.sentence.deadline for job in self.jobs)
        return any(deadline is not None and deadline <= now + _DEADLINE_SLACK for deadline in deadlines)

    def cancel(self) -> None:
        """Give up on all of its sentences; the future ends with ``Cancelled`` unless it ended before."""
        if not self.future.done():
            self.on_cancel(self)

    def settle(self, index: int, outcome: Decoded | DragomanError) -> None:
        """Record how one sentence ended; from any thread, once for each."""
        with self._settling:
            if self.future.done():
                return
            if not isinstance(outcome, DragomanError):
                self._decoded[index] = outcome
                if self.listener:
                    self.listener.ended(index, outcome)
                if len(self._decoded) == len(self.jobs):
                    self.future.set_result(tuple(self._decoded[i] for i in range(len(self.jobs))))
                return
            self.future.set_exception(outcome)
        self.on_cancel(self)
