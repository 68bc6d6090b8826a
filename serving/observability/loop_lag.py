"""Lag of an event loop: how late it does what was due, since something else held it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_PERIOD = 0.05  # seconds


async def watch_lag(observe: Callable[[float], None], period: float = _PERIOD) -> None:
    """Report the lag of the running loop for ever, in seconds, once for each ``period``.

    A loop that is held for many periods is late for each of them, and each is reported: what is observed is the lag
    that something due at any moment would have, and not only at those moments at which the loop was free before.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + period
    while True:
        await asyncio.sleep(due - loop.time())
        now = loop.time()
        while due <= now:
            observe(now - due)
            due += period
