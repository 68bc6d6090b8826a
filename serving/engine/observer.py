"""What the engine tells the outside about its work: events as they happen, and a snapshot on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from serving.messages import FinishReason


class RejectReason(StrEnum):
    """Why sentences were refused at submission; a closed set, used as a metric label."""

    QUEUE_FULL = "queue_full"
    TOKENS_FULL = "tokens_full"
    DEADLINE = "deadline"
    DRAINING = "draining"
    STOPPED = "stopped"


class DropReason(StrEnum):
    """Why an accepted sentence never reached the encoder."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"


class Outcome(StrEnum):
    """How an accepted sentence ended; each ends exactly once."""

    OK = "ok"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    FAILURE = "failure"
    STOPPED = "stopped"


@dataclass(frozen=True)
class EngineSnapshot:
    """The engine's gauges at one moment.

    Attributes:
        queue_depth: Sentences accepted and not yet admitted to a slot.
        queue_tokens: Their source tokens.
        oldest_age_seconds: How long the first of them has waited; 0 for an empty queue.
        running_slots: Sentences in slots.
        running_rows: Their hypotheses: the sum of beam sizes.
        running_tokens: Share of the running set's token budget in use, in tokens.
        lanes: Grids that exist, busy or idle.
        state_bytes: Bytes of memory and state held by the runner's grids.
        draining: New work is refused.
        healthy: The engine's thread lives and its last steps did not all fail.
    """

    queue_depth: int
    queue_tokens: int
    oldest_age_seconds: float
    running_slots: int
    running_rows: int
    running_tokens: int
    lanes: int
    state_bytes: int
    draining: bool
    healthy: bool


class EngineObserver(Protocol):
    """Receives the engine's events, from its threads and from submitting ones; must neither block nor raise."""

    def submitted(self, sentences: int, source_tokens: int) -> None:
        """Sentences were accepted into the queue."""
        ...

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        """A submission was refused."""
        ...

    def dropped(self, reason: DropReason) -> None:
        """A sentence left the queue without reaching the encoder; ``finished`` follows."""
        ...

    def admitted(self, queue_seconds: float) -> None:
        """A sentence was placed in a slot after so long in the queue."""
        ...

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        """One encoder batch ran over ``tokens`` source tokens and ``padding`` padding tokens."""
        ...

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        """One decoder step of one grid ran, ``slots * beam`` rows; ``host_seconds`` of it outside the model."""
        ...

    def first_token(self, seconds: float) -> None:
        """A sentence's first step is done, so long after it was accepted."""
        ...

    def freed(self, steps: int) -> None:
        """A cancelled sentence's slot is free; its grid made ``steps`` steps between the cancel and that."""
        ...

    def restarted(self) -> None:
        """A step failed and its grid was given up; the next sentence of its beam size gets a new one."""
        ...

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        """An accepted sentence ended; reason and tokens are those of its best hypothesis, None and 0 without one."""
        ...


class TranslatorObserver(Protocol):
    """Receives what happens to texts around the engine, from any thread; must neither block nor raise."""

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        """A request was split and tokenised into sentences of so many tokens, end tokens not counted."""
        ...

    def detokenized(self, seconds: float) -> None:
        """A request's translations were put together."""
        ...


class SilentObserver:
    """Observes nothing."""

    def submitted(self, sentences: int, source_tokens: int) -> None:
        """Does nothing."""

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        """Does nothing."""

    def dropped(self, reason: DropReason) -> None:
        """Does nothing."""

    def admitted(self, queue_seconds: float) -> None:
        """Does nothing."""

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        """Does nothing."""

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        """Does nothing."""

    def first_token(self, seconds: float) -> None:
        """Does nothing."""

    def freed(self, steps: int) -> None:
        """Does nothing."""

    def restarted(self) -> None:
        """Does nothing."""

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        """Does nothing."""

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        """Does nothing."""

    def detokenized(self, seconds: float) -> None:
        """Does nothing."""
