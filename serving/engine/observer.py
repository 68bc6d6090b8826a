"""The engine's reports about its work: events as they happen, and a snapshot on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from serving.messages import FinishReason, QualityFlag


class RejectReason(StrEnum):
    """The reason why sentences were refused at submission; a closed set, used as a metric label."""

    QUEUE_FULL = "queue_full"
    TOKENS_FULL = "tokens_full"
    DEADLINE = "deadline"
    DRAINING = "draining"
    STOPPED = "stopped"
    QUARANTINED = "quarantined"


class DropReason(StrEnum):
    """The reason why an accepted sentence never reached the encoder."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"


class Outcome(StrEnum):
    """The end of an accepted sentence; each ends exactly once."""

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
        oldest_age_seconds: Time for which the first of them has waited; 0 for an empty queue.
        running_slots: Sentences in slots.
        running_rows: Their hypotheses: the sum of beam sizes.
        running_tokens: Share of the running set's token budget in use, in tokens.
        lanes: Grids that exist, busy or idle.
        state_bytes: Bytes of memory and state held by the runner's grids.
        worker_bytes: Bytes of main memory of the workers' own processes.
        draining: New work is refused.
        healthy: The workers live and none's last steps all failed.
    """

    queue_depth: int
    queue_tokens: int
    oldest_age_seconds: float
    running_slots: int
    running_rows: int
    running_tokens: int
    lanes: int
    state_bytes: int
    worker_bytes: int
    draining: bool
    healthy: bool


class EngineObserver:
    """Receives the engine's events, from its threads and from its callers'; must neither block nor raise.

    This one ignores them all.
    """

    def submitted(self, sentences: int, source_tokens: int) -> None:
        """Note that sentences were accepted into the queue."""

    def rejected(self, sentences: int, reason: RejectReason) -> None:
        """Note that a submission was refused."""

    def dropped(self, reason: DropReason) -> None:
        """Note that a sentence left the queue without reaching the encoder; ``finished`` follows."""

    def admitted(self, queue_seconds: float) -> None:
        """Note that a sentence was placed in a slot after ``queue_seconds`` in the queue."""

    def encoded(self, seconds: float, sources: int, tokens: int, padding: int) -> None:
        """Note that an encoder batch ran over ``tokens`` source tokens and ``padding`` padding tokens."""

    def stepped(self, seconds: float, host_seconds: float, slots: int, beam: int) -> None:
        """Note a decoder step of one grid over ``slots * beam`` rows; ``host_seconds`` were spent outside the model."""

    def first_token(self, seconds: float) -> None:
        """Note that a sentence's first step ended ``seconds`` after the sentence was accepted."""

    def freed(self, steps: int) -> None:
        """Note that a cancelled sentence's slot is free, ``steps`` steps of its grid after the cancellation."""

    def restarted(self) -> None:
        """Note that a grid was given up after a failure; the next sentence of its beam size gets a new one."""

    def finished(self, outcome: Outcome, finish_reason: FinishReason | None, target_tokens: int) -> None:
        """Note the end of an accepted sentence; without a hypothesis, the reason is None and the tokens are 0."""


class TranslatorObserver:
    """Receives what happens to texts around the engine, from any thread; must neither block nor raise.

    This one ignores it all.
    """

    def tokenized(self, seconds: float, source_lengths: Sequence[int]) -> None:
        """Note that a request was split and tokenised into sentences; ``source_lengths`` do not count end tokens."""

    def detokenized(self, seconds: float) -> None:
        """Note that a request's translations were put together."""

    def flagged(self, flag: QualityFlag) -> None:
        """Note a sign that a translation may be wrong."""


class Observer(EngineObserver, TranslatorObserver):
    """Receives what happens to texts and to sentences."""
