"""`dragoman-translate` against a server that refuses: it waits as long as the server says, and slows down."""

import asyncio
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from serving.api.admission import Phase
from tests.integration.toy_server import Toy, eventually, serving, toy_config

ROOT = Path(__file__).parents[2]


async def begin(toy: Toy, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.client", "--server", f"127.0.0.1:{toy.server.port}", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def translate(toy: Toy, lines: list[str], *arguments: str) -> tuple[int | None, list[str], str]:
    process = await begin(toy, *arguments)
    out, err = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    return process.returncode, out.decode().splitlines(), err.decode()


def refused(toy: Toy, reason: str) -> float:
    return toy.sample("dragoman_refused_calls_total", method="Translate", reason=reason) or 0


async def test_every_line_is_translated_at_the_rate_that_the_server_allows() -> None:
    lines = [f"line {number}" for number in range(40)]
    async with serving(toy_config(max_calls_per_second=10)) as toy:
        status, out, err = await translate(toy, lines)
        assert (status, out) == (0, lines)
        assert re.fullmatch(r"dragoman-translate: the server asks to wait \(.*\); going on as fast as it allows\n", err)
        assert refused(toy, "rate_limit") < 2 * len(lines)  # once each for those that were in flight, then rarely


async def test_every_line_is_translated_by_a_server_that_takes_few_calls_at_once() -> None:
    lines = [f"line {number}" for number in range(40)]
    async with serving(toy_config(max_calls=2)) as toy:
        assert (await translate(toy, lines))[:2] == (0, lines)
        assert refused(toy, "calls_full") > 0


async def test_a_line_is_left_blank_only_after_the_stated_time() -> None:
    async with serving(toy_config(max_calls_per_second=0.01)) as toy:
        status, out, err = await translate(toy, ["a", "b"], "--in-flight", "1", "--retry-for", "2")
    assert (status, out) == (1, ["a", ""])
    assert re.search(r"line 2: the server asks to wait \d+ s, longer than --retry-for 2 allows", err)


async def test_a_server_that_loads_for_longer_than_grpc_tries_is_waited_for() -> None:
    async with serving() as toy:
        toy.server.admission.phase = Phase.DRAINING
        process = await begin(toy, "abc")
        await eventually(lambda: refused(toy, "draining") == 6)  # gRPC makes five attempts
        toy.server.admission.phase = Phase.SERVING
        out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"abc\n")


@pytest.mark.usefixtures("interruptible")
async def test_an_interrupt_ends_a_wait() -> None:
    async with serving(toy_config(max_calls_per_second=0.01)) as toy:
        process = await begin(toy, "--retry-for", "600", "a", "b", "c")
        await eventually(lambda: refused(toy, "rate_limit") == 2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130
    assert time.monotonic() - began < 30
