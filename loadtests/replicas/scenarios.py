"""Scenarios of replicas under load, as their callers notice them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from loadtests.replicas.network import Network
from loadtests.replicas.processes import GRPC, Replica
from loadtests.replicas.traffic import Outcomes, constant, saturating
from loadtests.service.cores import Cores
from serving.client import AsyncTranslationClient

Connect = Callable[[], AsyncTranslationClient]
Restart = Callable[[int], Awaitable[None]]

# As in deploy/kubernetes: seconds that a replica is watched before the next one goes, and that one goes on serving
# when its name no longer leads to it.
MIN_READY_SECONDS = 10.0
PRE_STOP_SECONDS = 10.0

_SETTLE_SECONDS = 3.0
_WARM_SECONDS = 2.0
_WINDOW_SECONDS = 8.0


@asynccontextmanager
async def _load(connect: Connect, texts: Sequence[str], rate: float) -> AsyncIterator[Outcomes]:
    outcomes, stop = Outcomes(), asyncio.Event()
    async with connect() as client:
        await client.translate([texts[0]])
        task = asyncio.create_task(constant(client, texts, rate=rate, stop=stop, outcomes=outcomes))
        try:
            await asyncio.sleep(_SETTLE_SECONDS)
            yield outcomes
        finally:
            stop.set()
            await task


async def rolling_restart(
    connect: Connect, texts: Sequence[str], *, rate: float, calls: int, places: int, restart: Restart
) -> dict[str, Any]:
    """Restart the replica of every place in turn, and again from the first, until ``calls`` calls have been made."""
    restarts = 0
    async with _load(connect, texts, rate) as outcomes:
        while outcomes.statuses.total() < calls or restarts % places:
            await restart(restarts % places)
            restarts += 1
            await asyncio.sleep(MIN_READY_SECONDS)
    return {"restarts": restarts, **outcomes.summary()}


def in_place(replicas: Sequence[Replica]) -> Restart:
    """Return a restart by SIGTERM, the drain, and a new process at the same address."""

    async def restart(place: int) -> None:
        await asyncio.to_thread(replicas[place].stop)
        await asyncio.to_thread(replicas[place].start)

    return restart


def at_a_new_address(replicas: list[Replica], network: Network) -> Restart:
    """Return a restart as by a Deployment: a new replica comes up, the name leads to it, then the old one goes."""

    async def restart(place: int) -> None:
        old, new = replicas[place], replicas[place].successor()
        await asyncio.to_thread(new.start)
        replicas[place] = new
        network.target([replica.host for replica in replicas], GRPC)
        await asyncio.sleep(PRE_STOP_SECONDS)
        await asyncio.to_thread(old.stop)

    return restart


async def sudden_death(
    connect: Connect, replicas: Sequence[Replica], texts: Sequence[str], *, rate: float
) -> dict[str, Any]:
    """Kill every replica once under load, and start it again."""
    async with _load(connect, texts, rate) as outcomes:
        for replica in replicas:
            await asyncio.to_thread(replica.kill)
            await asyncio.sleep(_SETTLE_SECONDS)
            await asyncio.to_thread(replica.start)
            await asyncio.sleep(MIN_READY_SECONDS)
    return {"kills": len(replicas), **outcomes.summary()}


async def second_core(
    alone: Sequence[Connect], both: Connect, replicas: Sequence[Replica], texts: Sequence[str], *, rounds: int
) -> dict[str, Any]:
    """Measure sentences a second of each replica alone and of both together.

    A round is the first alone, both, the second alone, and its ratio is both to the mean of one: a machine that is slow
    for a while, or one of its cores, spoils no more than that round.
    """
    singles, pairs = list[float](), list[float]()
    cores = Cores(*(replica.usage() for replica in replicas))
    for _ in range(rounds):
        first = await _throughput(alone[0], replicas[:1], texts)
        pairs.append(await _throughput(both, replicas, texts))
        singles.append((first + await _throughput(alone[1], replicas[1:], texts)) / 2)
    used = cores.used()
    ratios = [pair / single for single, pair in zip(singles, pairs, strict=True)]
    return {
        "one_replica_sentences_per_second": singles,
        "two_replicas_sentences_per_second": pairs,
        "ratios": ratios,
        "median_ratio": statistics.median(ratios),
        "cores_used_by_the_load_generator": used["generator"],
        "cores_used_by_others": used["others"],
    }


async def _throughput(connect: Connect, replicas: Sequence[Replica], texts: Sequence[str]) -> float:
    """Measure sentences a second, as the replicas count them."""
    stop = asyncio.Event()

    def sentences() -> float:
        return sum(replica.sum("dragoman_sentences_total", {"outcome": "ok"}) for replica in replicas)

    async with connect() as client:
        # Enough calls that no replica ever waits for one: two of them fill it.
        load = asyncio.create_task(saturating(client, texts, in_flight=6 * len(replicas), stop=stop))
        await asyncio.sleep(_WARM_SECONDS)
        before, started = await asyncio.to_thread(sentences), time.perf_counter()
        await asyncio.sleep(_WINDOW_SECONDS)
        after, passed = await asyncio.to_thread(sentences), time.perf_counter() - started
        stop.set()
        await load
    return (after - before) / passed
