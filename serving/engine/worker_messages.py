"""What an engine and a worker in another process tell each other.

Both are this program on this machine, at the ends of a socket that nobody else has: messages are pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serving.engine.scheduler import EncoderBatch, EngineLimits
from serving.engine.submission import Sentence
from serving.runtime.runner import Runner

OF_SENTENCES = frozenset({"finish", "accuse", "grew"})  # events of a report; the others are for the observer


@dataclass(frozen=True)
class Start:
    """The first message to a worker, which answers with an error in words, or an empty string when it is ready.

    Attributes:
        set_up: Is called first, for what a process needs, such as a log.
        open_runner: Loads the model.
        number: Of the worker.
        name: Of the model.
        limits: Of the engine.
        failures: Of the worker whose place it takes.
    """

    set_up: Callable[[], object] | None
    open_runner: Callable[[], Runner]
    number: int
    name: str
    limits: EngineLimits
    failures: int


@dataclass(frozen=True)
class Task:
    """A sentence to decode.

    Attributes:
        key: Names it in messages.
        sentence: The sentence.
        accepted: When it entered the queue, ``time.monotonic()`` seconds, which all processes of a machine share.
        streams: Tokens are to be told as they become certain.
    """

    key: int
    sentence: Sentence
    accepted: float
    streams: bool


@dataclass(frozen=True)
class Orders:
    """A message to a worker.

    Attributes:
        batches: Sentences to begin.
        cancelled: Keys of sentences that nobody waits for any more, and since when.
    """

    batches: tuple[EncoderBatch[Task], ...]
    cancelled: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class WorkerReport:
    """A message from a worker, at the end of a round.

    Attributes:
        events: What happened, in order: names of methods and their arguments. Methods are those of
            :class:`serving.engine.observer.EngineObserver` and, in ``OF_SENTENCES``, of ``WorkerProcess``.
        lanes: That exist.
        failures: Runs of the model that failed since the last good step.
        state_bytes: Held for memory and state by its lanes.
        resident_bytes: Main memory of the process.
    """

    events: tuple[tuple[str, tuple[Any, ...]], ...]
    lanes: int
    failures: int
    state_bytes: int
    resident_bytes: int
