"""The speed of the queue, measured only while there is one."""

from __future__ import annotations

import math

_MEMORY_SECONDS = 10.0  # what happened this long ago counts 1/e
_ENOUGH_SECONDS = 1.0  # backlogged time to have seen before an estimate is given


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
