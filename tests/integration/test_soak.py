"""Many callers at once, well and badly behaved. ``SOAK_SECONDS=60`` makes it as long as a release check wants it."""

import asyncio
import os
import random
import time
from collections import Counter

import grpc
import pytest

from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import Toy, eventually, request, serving, toy_config

CLIENTS = 64
BEAMS = (1, 2, 4)
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
CALLS_AT_LEAST = 4  # of each client, however short the soak
GRPC = {"grpc_type": "unary", "grpc_service": "dragoman.v1.TranslationService", "grpc_method": "Translate"}

Answers = dict[tuple[str, int], str]  # by text and beam size


def needles(client: int) -> list[str]:
    return [f"needle {client} {'x' * n}" for n in (1, 8, 30)]


def told(answer: pb.TranslateResponse) -> list[str]:
    return [translation.hypotheses[0].text for translation in answer.translations]


async def answers_in_peace(toy: Toy) -> Answers:
    """What every caller's texts are translated to in one orderly call."""
    answers: Answers = {}
    texts = [text for number in range(CLIENTS) for text in needles(number)]
    for beam in BEAMS:
        orderly = told(await toy.stub.Translate(request(*texts, beam_size=beam)))
        assert len(set(orderly)) == len(texts)
        answers |= {(text, beam): answer for text, answer in zip(texts, orderly, strict=True)}
    return answers


async def client(toy: Toy, number: int, answers: Answers, until: float) -> Counter[str]:
    """Calls until its time is over: mixed beams, short deadlines, calls given up half-way."""
    chance = random.Random(number)
    codes: Counter[str] = Counter()
    while sum(codes.values()) < CALLS_AT_LEAST or time.monotonic() < until:
        texts, beam = chance.sample(needles(number), chance.randint(1, 3)), chance.choice(BEAMS)
        call = toy.stub.Translate(request(*texts, beam_size=beam), timeout=chance.choice([None, 30, 30, 30, 0.05]))
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
            assert told(answer) == [answers[text, beam] for text in texts]
    return codes


@pytest.mark.timeout(SECONDS + 300)
async def test_many_callers_each_get_one_answer_of_their_own() -> None:
    async with serving(
        toy_config(max_rows=32, max_queue_sentences=256, max_queue_tokens=2000, max_contents=256)
    ) as toy:
        answers = await answers_in_peace(toy)
        before = toy.sample("grpc_server_started_total", **GRPC) or 0
        until = time.monotonic() + SECONDS
        counters = await asyncio.gather(*(client(toy, number, answers, until) for number in range(CLIENTS)))
        codes = sum(counters, Counter[str]())
        assert codes.keys() <= {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert codes["OK"] > CLIENTS

        def handled(*names: str) -> float:
            return sum(toy.sample("grpc_server_handled_total", **GRPC, grpc_code=name) or 0 for name in names)

        # A call that was given up before it left the client never reached the server, so started may be below sent.
        ends = ("OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
        await eventually(lambda: handled(*ends) == toy.sample("grpc_server_started_total", **GRPC))
        assert codes["OK"] <= handled(*ends) - before <= sum(codes.values())
        await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 0)
        for name in ("queue_depth", "queue_tokens", "running_rows", "running_tokens"):
            assert toy.sample(f"dragoman_{name}", model="toy/1") == 0
        assert toy.sample("dragoman_calls_in_flight") == 0
