"""Which calls may begin: those of a server that is up and below its limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from serving.errors import Overloaded, Unavailable


class Phase(StrEnum):
    """The life of a server."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


# Seconds after which a refused caller may try again: a load takes some, another replica has room at once.
_RETRY_AFTER = {Phase.LOADING: 5.0, Phase.DRAINING: 1.0}
_CALLS_RETRY_AFTER = 0.5


class TokenBucket:
    """A rate limit that admits bursts of up to one second's worth of calls."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts full."""
        self._rate = per_second
        self._size = max(1.0, per_second)
        self._level = self._size
        self._clock = clock
        self._filled = clock()

    def take(self) -> float:
        """Takes one call's worth; returns 0, or the seconds until there is one and takes nothing."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled) * self._rate)
        self._filled = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0


class Admission:
    """Counts the calls in flight and refuses those that may not begin. Belongs to one event loop."""

    def __init__(self, max_calls: int, max_calls_per_second: float = 0.0) -> None:
        """Starts in ``LOADING``; a rate of 0 is no limit."""
        self.phase = Phase.LOADING
        self.in_flight = 0
        self._max_calls = max_calls
        self._bucket = TokenBucket(max_calls_per_second) if max_calls_per_second else None
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Holds a place for one call.

        Raises:
            Unavailable: The server is loading or draining.
            Overloaded: Too many calls are in flight, or they come too fast.
        """
        self._refuse()
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def idle(self, timeout: float) -> bool:
        """Waits until no call is in flight; returns whether that happened within ``timeout`` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        return not self.in_flight

    def _refuse(self) -> None:
        if self.phase is not Phase.SERVING:
            raise Unavailable(
                f"the server is {self.phase}; try again, or ask another one",
                reason=self.phase,
                retry_after=_RETRY_AFTER[self.phase],
            )
        if self.in_flight >= self._max_calls:
            raise Overloaded(
                f"{self.in_flight} calls are in flight and {self._max_calls} are the limit; try again later",
                reason="calls_full",
                retry_after=_CALLS_RETRY_AFTER,
            )
        if self._bucket and (wait := self._bucket.take()):
            raise Overloaded(
                "calls come faster than this server's rate limit; send fewer, or try again later",
                reason="rate_limit",
                retry_after=wait,
            )
