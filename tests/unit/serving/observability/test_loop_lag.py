"""The lag of an event loop is seen for as long as something holds it."""

import asyncio
import time

from serving.observability.loop_lag import watch_lag

PERIOD = 0.01


async def test_a_loop_that_is_held_is_late_for_all_that_was_due_meanwhile() -> None:
    seen: list[float] = []
    watching = asyncio.create_task(watch_lag(seen.append, PERIOD))
    while not seen:
        await asyncio.sleep(PERIOD)
    free = len(seen)
    time.sleep(20 * PERIOD)
    while len(seen) == free:
        await asyncio.sleep(PERIOD)
    watching.cancel()
    held = seen[free:]
    assert len(held) >= 19
    assert held[0] >= 18 * PERIOD
    assert held[:19] == sorted(held[:19], reverse=True)
    assert min(seen) >= 0
