"""Admission of calls: the server must be serving and below its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from serving.api.in_flight import InFlight
from serving.api.token_bucket import TokenBucket
from serving.errors import Overloaded, Unavailable
from serving.runtime.memory import resident_bytes


class Phase(StrEnum):
    """Phase in the life of a server."""

    LOADING = "loading"
    SERVING = "serving"
    LEAVING = "leaving"  # calls are accepted, and whoever asks is told to send the next ones elsewhere
    DRAINING = "draining"


# Seconds before a refused caller may retry: loading takes a while, but another replica has room at once.
_RETRY_AFTER = {Phase.LOADING: 5.0, Phase.DRAINING: 0.1}
_CALLS_RETRY_AFTER = 0.5


class Admission:
    """Counter of the calls in flight that refuses calls over the limits; belongs to one event loop."""

    def __init__(
        self,
        max_calls: int,
        max_calls_per_second: float = 0.0,
        max_memory_bytes: int = 0,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        """Start in ``LOADING``; a rate of 0 and a memory of 0 mean no limit."""
        self.phase = Phase.LOADING
        self._max_calls = max_calls
        self._bucket = TokenBucket(max_calls_per_second) if max_calls_per_second else None
        self._calls = InFlight()
        self._max_memory, self._resident = max_memory_bytes, resident

    @property
    def in_flight(self) -> int:
        """Calls that hold a place."""
        return self._calls.count

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold a place for one call.

        Raises:
            Unavailable: The server is loading or draining.
            Overloaded: Too many calls are in flight, they arrive too fast, or memory is short.
        """
        self._refuse()
        with self._calls.one():
            yield

    async def idle(self, timeout: float) -> bool:
        """Wait until no call is in flight and return whether that happened within ``timeout`` seconds."""
        return await self._calls.idle(timeout)

    def check_phase(self) -> None:
        """Let pass while the server serves.

        Raises:
            Unavailable: The server is loading or draining.
        """
        if self.phase not in {Phase.SERVING, Phase.LEAVING}:
            raise Unavailable(
                f"the server is {self.phase}; try again, or try another server",
                reason=self.phase,
                retry_after=_RETRY_AFTER[self.phase],
            )

    def _refuse(self) -> None:
        self.check_phase()
        if self.in_flight >= self._max_calls:
            raise Overloaded(
                f"{self.in_flight} calls are in flight, the limit is {self._max_calls}; try again later",
                reason="calls_full",
                retry_after=_CALLS_RETRY_AFTER,
            )
        # Without a call in flight there is nothing to wait for: one call at a time always gets through.
        if self._max_memory and self.in_flight and (used := self._resident()) > self._max_memory:
            raise Overloaded(
                f"the server uses {used >> 20} MiB of memory, at most {self._max_memory >> 20} MiB; try again later",
                reason="memory_full",
                retry_after=_CALLS_RETRY_AFTER,
            )
        if self._bucket and (wait := self._bucket.take()):
            raise Overloaded(
                "calls arrive faster than the rate limit of this server; send fewer, or try again later",
                reason="rate_limit",
                retry_after=wait,
            )
