"""Every call has exactly one end, whatever happens to it. ``CALLS=10000`` makes it as long as a release check wants."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import pytest

from serving.api.server import SERVICE
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import NAN_TEXT, Toy, eventually, request, serving, toy_config

CALLS = int(os.environ.get("CALLS", "2000"))
IN_FLIGHT = 128
GRPC = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Translate"}
CODES = {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}
GAUGES = ("queue_depth", "queue_tokens", "queue_oldest_age_seconds", "running_slots", "running_rows", "running_tokens")


def asked(chance: random.Random) -> pb.TranslateRequest | bytes:
    """A request of one of many kinds, good and bad."""
    good = request(
        *("x" * chance.randint(0, 40) + " y" for _ in range(chance.randint(1, 4))),
        beam_size=chance.choice([1, 2, 4]),
        n_best=1,
    )
    good.priority = chance.randint(-2, 2)
    bad: dict[str, pb.TranslateRequest | bytes] = {
        "option": request("x", beam_size=99),
        "empty": request(),
        "model": pb.TranslateRequest(contents=["x"], model="nope"),
        "bytes": b"\xff\xff\xff",
        "not a number": request(f"a{NAN_TEXT}c"),
        "priority": pb.TranslateRequest(contents=["x"], priority=9),
    }
    return bad[chance.choice(list(bad))] if chance.random() < 0.2 else good


async def one(toy: Toy, chance: random.Random) -> str:
    """Make one call, with a short deadline or a caller who goes away now and then; return its status."""
    what = asked(chance)
    raw = what if isinstance(what, bytes) else what.SerializeToString()
    unary_unary: Any = toy.channel.unary_unary
    timeout = chance.choice([None, 30, 30, chance.uniform(0.001, 0.004)])
    call = unary_unary(f"/{SERVICE}/Translate")(raw, timeout=timeout)
    if chance.random() < 0.15:
        asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), call.cancel)
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await call
    code: grpc.StatusCode = await call.code()
    return code.name


@pytest.mark.timeout(900)
async def test_every_call_ends_once_and_nothing_is_left() -> None:
    limits = {"max_rows": 16, "max_queue_sentences": 64, "max_queue_tokens": 1500}
    async with serving(toy_config(**limits)) as toy:
        remaining, told = iter(range(CALLS)), Counter[str]()

        async def caller() -> None:
            for number in remaining:
                told[await one(toy, random.Random(number))] += 1

        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        assert told.total() == CALLS
        assert told.keys() <= CODES, told
        assert min(told[code] for code in CODES - {"RESOURCE_EXHAUSTED"}) > 0, told

        def total(name: str, **labels: str) -> float:
            families = toy.server.metrics.registry.collect()
            samples = (sample for family in families for sample in family.samples if sample.name == name)
            return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

        async with asyncio.timeout(10):
            await eventually(lambda: toy.server.admission.in_flight == 0)
        begun = toy.sample("grpc_server_started_total", **GRPC)
        assert begun
        assert total("grpc_server_handled_total", **GRPC) == begun
        assert total("dragoman_requests_total", method="Translate") == begun
        assert begun <= CALLS  # a call that is given up before it leaves the client reaches no server
        assert total("grpc_server_handled_total", **GRPC, grpc_code="OK") >= told["OK"]
        await eventually(lambda: all(toy.sample(f"dragoman_{name}", model="toy/1") == 0 for name in GAUGES))
