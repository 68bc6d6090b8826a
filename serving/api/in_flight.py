"""What is in flight: a counter that tells when it is back at none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class InFlight:
    """Counter of calls in flight; belongs to one event loop."""

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one call for as long as the block runs."""
        self.count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._idle.set()

    async def idle(self, timeout: float | None = None) -> bool:
        """Wait until no call is in flight and return whether that happened within ``timeout`` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        return not self.count
