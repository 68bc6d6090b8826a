"""Rate limits."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Rate limit that admits bursts of up to one second's worth."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with a full bucket."""
        self._rate = per_second
        self._size = max(1.0, per_second)
        self._level = self._size
        self._clock = clock
        self._filled = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take an amount and return 0, or take nothing and return the seconds until it can be taken.

        What is more than a whole bucket is taken from a full one, which then has to be filled all the longer.
        """
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled) * self._rate)
        self._filled = now
        if self._level < (needed := min(amount, self._size)):
            return (needed - self._level) / self._rate
        self._level -= amount
        return 0.0
