"""Load for the tests of several replicas: calls at a constant rate, or as many as fit."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from loadtests.service.calls import OK, milliseconds
from serving.client import AsyncTranslationClient, CallError, Options


class Outcomes:
    """Outcomes of calls: latencies in seconds from due to the end, retries included, and reasons of failures."""

    def __init__(self) -> None:
        """Begin without any call."""
        self.statuses = Counter[str]()
        self.latencies: list[float] = []
        self.reasons = Counter[str]()

    def summary(self) -> dict[str, Any]:
        """Return the number of calls and failures, latencies in milliseconds and, if any, reasons of failures."""
        calls = self.statuses.total()
        figures = {"calls": calls, "failed": calls - self.statuses[OK], "latency_ms": milliseconds(self.latencies)}
        return figures | ({"reasons": dict(self.reasons.most_common(5))} if self.reasons else {})


async def constant(
    client: AsyncTranslationClient, texts: Sequence[str], *, rate: float, stop: asyncio.Event, outcomes: Outcomes
) -> None:
    """Make ``rate`` calls of one sentence a second until ``stop`` is set, and wait for all of them.

    Calls do not wait for each other, so a missing replica delays all calls that would have gone to it.
    """
    started = time.perf_counter()

    async def call(due: float, text: str) -> None:
        try:
            await client.translate([text], Options(beam_size=1))
        except CallError as error:
            outcomes.statuses[error.code.name] += 1
            outcomes.reasons[f"{error.code.name}: {error.message[:200]}"] += 1
            return
        outcomes.statuses[OK] += 1
        outcomes.latencies.append(time.perf_counter() - started - due)

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due = number / rate
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            if stop.is_set():
                return
            group.create_task(call(due, texts[number % len(texts)]))


async def saturating(
    client: AsyncTranslationClient, texts: Sequence[str], *, in_flight: int, stop: asyncio.Event
) -> None:
    """Keep ``in_flight`` calls of all the texts in flight until ``stop`` is set.

    Raises:
        CallError: A call failed.
    """

    async def caller() -> None:
        while not stop.is_set():
            await client.translate(texts, Options(beam_size=4), deadline=120.0)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
