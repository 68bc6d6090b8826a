"""How fast the queue moves and how long a sentence takes, measured as they happen."""

from __future__ import annotations

import math

_MEMORY_SECONDS = 10.0  # what happened this long ago counts 1/e
_WEIGHT = 0.05  # of the latest sentence in a mean over all
_ENOUGH_SECONDS = 1.0  # backlogged time to have seen before an estimate is given
_MARGIN_STEP, _MOST_MARGIN = 0.01, 1.0  # seconds: for each sentence that was late, and at most
_MARGIN_MEMORY = 2.0  # seconds after which 1/e of a margin is left


class Throughput:
    """Tokens per second that leave a queue with more to give: an idle server's rate does not show what it can do."""

    def __init__(self) -> None:
        """Start without any measurement."""
        self._tokens = 0.0
        self._seconds = 0.0
        self._since: float | None = None  # last time that left a backlog

    def took(self, tokens: int, now: float, *, backlog: bool) -> None:
        """Note that ``tokens`` left the queue at ``now``; ``backlog`` says whether work was left behind."""
        if self._since is not None:
            elapsed = now - self._since
            decay = math.exp(-elapsed / _MEMORY_SECONDS)
            self._tokens = self._tokens * decay + tokens
            self._seconds = self._seconds * decay + elapsed
        self._since = now if backlog else None

    def seconds_for(self, tokens: int) -> float | None:
        """Estimate the seconds until ``tokens`` have left the queue; None while too little was measured."""
        if self._seconds < _ENOUGH_SECONDS or self._tokens <= 0:
            return None
        return tokens * self._seconds / self._tokens


class DecodingTime:
    """Seconds from a sentence's encoding to its end, by its source tokens, among as many others as run beside it."""

    def __init__(self) -> None:
        """Start without any measurement."""
        self._seconds_per_token = 0.0

    def took(self, source_tokens: int, seconds: float) -> None:
        """Note that a sentence of ``source_tokens`` was decoded in ``seconds``."""
        measured = seconds / source_tokens
        first = self._seconds_per_token == 0.0
        self._seconds_per_token += (measured - self._seconds_per_token) * (1.0 if first else _WEIGHT)

    def seconds_for(self, source_tokens: int) -> float:
        """Estimate the seconds that a sentence takes; 0 while nothing was measured."""
        return self._seconds_per_token * source_tokens


class Margin:
    """Seconds that the estimates were too short by: the more sentences were accepted and late, the more.

    Without it a server that has fallen behind stays there: every call is old when it is looked at, has just enough time
    left by the estimates, is worked on, and is late. With it such calls are refused, which is cheap, until new ones are
    looked at in time.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._seconds, self._since = 0.0, 0.0

    def missed(self, now: float) -> None:
        """Note that a sentence that had been accepted was late."""
        self._seconds = min(self.seconds(now) + _MARGIN_STEP, _MOST_MARGIN)
        self._since = now

    def seconds(self, now: float) -> float:
        """Return the seconds to add to an estimate."""
        return self._seconds * math.exp((self._since - now) / _MARGIN_MEMORY)
