"""Servers that are compared take turns: each is given the same calls by callers without pauses, again and again.

Turns are short and alike to the last call, so that neither the draw of sentences nor a machine that is slow for a while
favours one. The callers are in this process: Locust takes longer to start than a turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from grpc import aio

from loadtests.service.services import Service
from serving.client.channel import channel_options

METHOD = "/dragoman.v1.TranslationService/Translate"
_CALLERS = 64
_DEADLINE = 120.0  # seconds: none fails for its deadline


@dataclass(frozen=True)
class Contender:
    """A server, and how its callers come in."""

    service: Service
    authority: bytes | None = None  # certificate of the authority of its TLS, in PEM; None without TLS
    token: str = ""  # what callers show; empty for none

    def channel(self) -> aio.Channel:
        """Return a channel of the shipped options, which all callers share; it connects at the first call."""
        options = channel_options(self.service.address)
        if self.authority is None:
            return aio.insecure_channel(self.service.address, options)
        return aio.secure_channel(self.service.address, grpc.ssl_channel_credentials(self.authority), options)


@dataclass(frozen=True)
class Turn:
    """What a server needed for the calls of one turn."""

    seconds: float  # until all were answered
    processor_seconds: float  # of the server


async def take_turns(
    contenders: Mapping[str, Contender], requests: Sequence[bytes], rounds: int
) -> dict[str, list[Turn]]:
    """Send requests to each server in each round, after one round that warms them up and does not count.

    Who is first changes from round to round.

    Raises:
        grpc.aio.AioRpcError: A call failed.
    """
    names = list(contenders)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    async with AsyncExitStack() as stack:
        channels = {name: await stack.enter_async_context(one.channel()) for name, one in contenders.items()}
        for number in range(rounds + 1):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turn = await _turn(contenders[name], channels[name], requests)
                turns[name] += [turn] if number else []
    return turns


async def _turn(contender: Contender, channel: aio.Channel, requests: Sequence[bytes]) -> Turn:
    translate: Any = channel.unary_unary(METHOD, None, None)  # bytes to bytes
    metadata = (("authorization", f"Bearer {contender.token}"),) if contender.token else ()
    waiting = iter(requests)

    async def caller() -> None:
        for request in waiting:
            await translate(request, timeout=_DEADLINE, metadata=metadata)

    before, started = contender.service.process.cpu_times(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    seconds, after = time.perf_counter() - started, contender.service.process.cpu_times()
    return Turn(seconds, after.user + after.system - before.user - before.system)


def throughput_lost(without: Sequence[Turn], with_it: Sequence[Turn]) -> list[float]:
    """Return the share of throughput that is lost in each round."""
    return [1 - off.seconds / on.seconds for off, on in zip(without, with_it, strict=True)]


def processor_added(without: Sequence[Turn], with_it: Sequence[Turn]) -> list[float]:
    """Return the processor time that is added in each round, as a share."""
    pairs = zip(without, with_it, strict=True)
    return [on.processor_seconds / off.processor_seconds - 1 for off, on in pairs]


def cost(without: Sequence[Turn], with_it: Sequence[Turn]) -> dict[str, Any]:
    """Return what something costs: medians over the rounds, and quartiles.

    Args:
        without: Turns without it.
        with_it: Turns of the same rounds with it.
    """
    costs = {"throughput": throughput_lost(without, with_it), "processor": processor_added(without, with_it)}
    medians = {name: float(np.median(shares)) for name, shares in costs.items()}
    return medians | {f"{name}_quartiles": np.quantile(shares, [0.25, 0.75]).tolist() for name, shares in costs.items()}
