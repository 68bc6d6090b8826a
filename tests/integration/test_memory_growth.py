"""Memory of a server under random work: it stays, and a server that leaks is found out.

That it stays is only tried with ``SOAK_SECONDS``, which ``make soak`` sets to half an hour: in seconds, buffers still
grow to their sizes. A run of less than ten minutes has more room for that. Without it a toy server leaks.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from loadtests.service.cores import resident
from serving.client import AsyncTranslationClient, CallError, Options
from tests.integration.test_process import Running, server_process

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
LONG = SECONDS >= 600
MOST_GROWTH, MOST_BYTES = (1.02, 50 << 20) if LONG else (1.10, 50 << 20)
MODELS = Path(__file__).parents[2] / "models"
WORDS = (
    "the",
    "water",
    "is",
    "cold",
    "we",
    "drink",
    "milk",
    "in",
    "an",
    "old",
    "house",
    "near",
    "it",
    "rains",
    "on",
    "us",
)
LEAK = (1 << 16) if LONG else (4 << 20)  # bytes a call
LEAKING_SECONDS = min(SECONDS, 300.0) or 6.0
CALLERS = 8


@asynccontextmanager
async def read_server(*command: str, **environment: str) -> AsyncIterator[Running]:
    """A server whose log is read: one that cannot write its log stands still."""
    async with server_process(*command, **environment) as running:
        assert running.process.stderr
        reading = asyncio.create_task(running.process.stderr.read())
        try:
            yield running
        finally:
            running.process.kill()
            await reading


async def warm(running: Running) -> None:
    """Have every buffer once: the longest texts, with every beam size.

    They are twice as many as come together later, as two workers share them evenly here and by chance then: what a
    worker takes for the first time in the middle of the run would look like a leak.
    """
    async with AsyncTranslationClient(running.listen, deadline=120) as client:
        for beam in (1, 2, 4):
            for text in (" ".join(WORDS * 32), " ".join(WORDS)):
                await asyncio.gather(*(client.translate([text], Options(beam_size=beam)) for _ in range(2 * CALLERS)))


async def work(running: Running, seconds: float) -> list[int]:
    """Texts of 1 to 512 words, beams, cancels and streams; the server's resident bytes, measured again and again."""
    process, sizes, until = psutil.Process(running.process.pid), list[int](), time.monotonic() + seconds

    async def caller(client: AsyncTranslationClient, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < until:
            text = " ".join(chance.choices(WORDS, k=int(2 ** chance.uniform(0, 9))))
            options = Options(beam_size=chance.choice([1, 1, 2, 4]))
            timeout = chance.choice([30.0, 30.0, 30.0, 0.05])
            with suppress(CallError, asyncio.CancelledError):
                if chance.random() < 0.3:
                    async for _ in client.translate_stream([text], options, deadline=timeout):
                        if chance.random() < 0.05:
                            break
                else:
                    call = asyncio.ensure_future(client.translate([text], options, deadline=timeout))
                    if chance.random() < 0.1:
                        asyncio.get_running_loop().call_later(chance.uniform(0, 0.2), call.cancel)
                    await call

    async def watch() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(seconds / 200)
            sizes.append(resident(process))

    async with AsyncTranslationClient(running.listen) as client:
        await asyncio.gather(watch(), *(caller(client, number) for number in range(CALLERS)))
    return sizes


def growth(sizes: list[int]) -> tuple[float, float]:
    """How the last tenth compares with the second one: the ratio, and bytes."""
    tenth = len(sizes) // 10
    early, late = statistics.median(sizes[tenth : 2 * tenth]), statistics.median(sizes[-tenth:])
    megabytes = f"resident MB at the start {sizes[0] / 1e6:.1f}, after a tenth of the time {early / 1e6:.1f}"
    print(f"{megabytes}, at the end {late / 1e6:.1f}: {late / early - 1:+.2%}, {(late - early) / 1e6:+.1f} MB")
    return late / early, late - early


def stays(ratio: float, more: float) -> bool:
    """Whether memory has grown by no more than it may."""
    return ratio <= MOST_GROWTH and more <= MOST_BYTES


@pytest.mark.skipif(not SECONDS, reason="SOAK_SECONDS is not set; make soak sets it")
@pytest.mark.timeout(SECONDS + 300)
async def test_memory_stays() -> None:
    async with read_server("-m", "serving", "--models", str(MODELS), "--threads", "1") as running:
        await warm(running)
        assert stays(*growth(await work(running, SECONDS)))


@pytest.mark.timeout(SECONDS + 300)
async def test_a_leak_is_found() -> None:
    command = ("-m", "tests.integration.test_memory_growth", "--models", str(MODELS))
    async with read_server(*command, TOY_STEP_SECONDS="0") as running:
        if SECONDS:
            await warm(running)
        assert not stays(*growth(await work(running, LEAKING_SECONDS)))


def leaking_server() -> int:
    """The real command, over a toy model without ``SOAK_SECONDS``, with a leak in what happens to each request."""
    import serving.cli
    from serving.engine.translator import Translator
    from tests.integration.toy_process import load_toy

    leaked, prepare = [], Translator._prepare

    def leaking(self: Translator, *arguments: object) -> object:
        leaked.append(os.urandom(LEAK))
        return prepare(self, *arguments)  # type: ignore[arg-type]

    setattr(Translator, "_prepare", leaking)  # noqa: B010
    if not SECONDS:
        setattr(serving.cli, "load_models", load_toy)  # noqa: B010
    return serving.cli.main()


if __name__ == "__main__":
    sys.exit(leaking_server())
