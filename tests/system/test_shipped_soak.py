"""64 callers with mixed beams on the shipped model: each gets its own answers, and nothing stays behind.

``SOAK_SECONDS=60`` makes it as long as a release check wants it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import urllib.request
from collections import Counter
from itertools import count, takewhile

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.client import AsyncTranslationClient, CallError, DeadlinePassed, Options, ServerOverloaded
from tests.shipped import BUNDLE, tatoeba_test
from tests.system.served import server

CLIENTS = 64
BEAMS = (1, 2, 4)
CALLS_AT_LEAST = 4  # of each client, however slow the machine
SECONDS = float(os.environ.get("SOAK_SECONDS", "5"))
GAUGES = ("queue_depth", "queue_tokens", "running_slots", "running_rows", "running_tokens", "calls_in_flight")


def gauges(address: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = {sample.name: sample.value for family in families for sample in family.samples}
    return {name: samples[f"dragoman_{name}"] for name in GAUGES}


async def soak(address: str) -> Counter[str]:
    sources, _ = tatoeba_test()
    needles = {number: sources[number * 3 : number * 3 + 3] for number in range(CLIENTS)}
    ends: Counter[str] = Counter()
    async with AsyncTranslationClient(address, deadline=120) as client:

        async def ask(texts: list[str], beam: int, deadline: float) -> list[str]:
            result = await client.translate(texts, Options(beam_size=beam), deadline=deadline)
            return [translation.hypotheses[0].text for translation in result.translations]

        peace: dict[tuple[str, int], str] = {}
        texts = [text for own in needles.values() for text in own]
        for beam in BEAMS:
            for some in (texts[::2], texts[1::2]):
                peace |= {(text, beam): answer for text, answer in zip(some, await ask(some, beam, 120), strict=True)}

        async def caller(number: int) -> None:
            chance = random.Random(number)
            for _ in takewhile(lambda calls: calls < CALLS_AT_LEAST or time.monotonic() < until, count()):
                texts, beam = chance.sample(needles[number], chance.randint(1, 3)), chance.choice(BEAMS)
                call = asyncio.create_task(ask(texts, beam, chance.choice([120.0, 120.0, 0.05])))
                if chance.random() < 0.1:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.2), call.cancel)
                try:
                    answers = await call
                except (DeadlinePassed, ServerOverloaded, asyncio.CancelledError) as error:
                    ends[type(error).__name__] += 1
                except CallError as error:
                    pytest.fail(f"an end that nobody asked for: {error!r}")
                else:
                    ends["answered"] += 1
                    assert answers == [peace[text, beam] for text in texts]

        until = time.monotonic() + SECONDS
        await asyncio.gather(*(caller(number) for number in range(CLIENTS)))
    return ends


@pytest.mark.timeout(SECONDS + 600)
def test_every_caller_gets_its_own_answers_and_gauges_return_to_zero() -> None:
    with server(BUNDLE.parents[1]) as addresses:
        ends = asyncio.run(soak(addresses.grpc))
        for _ in range(100):
            if not any((left := gauges(addresses.http)).values()):
                break
            time.sleep(0.1)
    print(dict(ends))
    assert ends["answered"] > CLIENTS
    assert not any(left.values()), left
