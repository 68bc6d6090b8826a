"""Many callers at once, well and badly behaved. ``SOAK_SECONDS=60`` makes it as long as a release check wants it."""

import asyncio
import os
import random
import time
from collections import Counter

import grpc
import pytest

from tests.integration.toy_server import Toy, eventually, request, serving, toy_config

CLIENTS = 64
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
CALLS_AT_LEAST = 4  # of each client, however short the soak
GRPC = {"grpc_type": "unary", "grpc_service": "dragoman.v1.TranslationService", "grpc_method": "Translate"}


async def client(toy: Toy, number: int, until: float) -> Counter[str]:
    """Calls until its time is over; every call of its own text, so an answer to another caller's is noticed."""
    chance = random.Random(number)
    codes: Counter[str] = Counter()
    while sum(codes.values()) < CALLS_AT_LEAST or time.monotonic() < until:
        text = f"needle {number}.{sum(codes.values())}"
        texts = [f"{text}.{i}" for i in range(chance.randint(1, 3))]
        timeout = chance.choice([None, 30, 30, 30, 0.05])
        call = toy.stub.Translate(request(*texts, beam_size=chance.choice([1, 1, 2, 4])), timeout=timeout)
        if chance.random() < 0.1:
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.05), call.cancel)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1
        except asyncio.CancelledError:
            codes["CANCELLED"] += 1
        else:
            codes["OK"] += 1
            assert [translation.hypotheses[0].text for translation in answer.translations] == texts
    return codes


@pytest.mark.timeout(SECONDS + 300)
async def test_many_callers_each_get_one_answer_of_their_own() -> None:
    async with serving(toy_config(max_rows=32, max_queue_sentences=64)) as toy:
        until = time.monotonic() + SECONDS
        counters = await asyncio.gather(*(client(toy, number, until) for number in range(CLIENTS)))
        codes = sum(counters, Counter[str]())
        assert codes.keys() <= {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert codes["OK"] > CLIENTS

        def handled() -> float:
            names = ("OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")
            return sum(toy.sample("grpc_server_handled_total", **GRPC, grpc_code=name) or 0 for name in names)

        # A call that was given up before it left the client never reached the server, so started may be below sent.
        await eventually(lambda: handled() == toy.sample("grpc_server_started_total", **GRPC))
        assert codes["OK"] <= handled() <= sum(codes.values())
        assert not toy.sample("grpc_server_handled_total", **GRPC, grpc_code="INTERNAL")
        await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 0)
        for name in ("queue_depth", "queue_tokens", "running_rows", "running_tokens"):
            assert toy.sample(f"dragoman_{name}", model="toy/1") == 0
        assert toy.sample("dragoman_calls_in_flight") == 0
