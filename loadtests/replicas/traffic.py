"""Load for the tests of several replicas: calls at a constant rate, or as many as fit."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.service.calls import milliseconds
from serving.client import AsyncTranslationClient, CallError, Options

OK = "OK"


@dataclass
class Outcomes:
    """What became of calls.

    Attributes:
        statuses: Calls by status.
        latencies: Seconds from due to the end, retries included, of calls that were answered.
        reasons: Messages of those that failed.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def calls(self) -> int:
        """How many there were."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """How many were not answered."""
        return self.calls - self.statuses[OK]

    def summary(self) -> dict[str, Any]:
        """Figures for people."""
        figures = {"calls": self.calls, "failed": self.failed, "latency_ms": milliseconds(self.latencies)}
        return figures | ({"reasons": dict(self.reasons.most_common(5))} if self.failed else {})


async def constant(
    client: AsyncTranslationClient, texts: Sequence[str], *, rate: float, stop: asyncio.Event, outcomes: Outcomes
) -> None:
    """Makes ``rate`` calls of one sentence a second until ``stop`` is set, and waits for all of them.

    Calls do not wait for each other, so a replica that is gone is felt by all who would have asked it.
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
    """Keeps ``in_flight`` calls of all the texts in flight until ``stop`` is set.

    Raises:
        CallError: One failed.
    """

    async def caller() -> None:
        while not stop.is_set():
            await client.translate(texts, Options(beam_size=4), deadline=120.0)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
