"""Lag of an event loop: how late it does what was due, since something else held it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Histogram

_PERIOD = 0.05  # seconds
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


def lag_histogram(registry: CollectorRegistry) -> Histogram:
    """Return the metric of the server's event loop, registered in ``registry``."""
    return Histogram(
        "dragoman_event_loop_lag_seconds",
        "How late the event loop, which looks at every call, does what is due.",
        buckets=_BUCKETS,
        registry=registry,
    )


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
