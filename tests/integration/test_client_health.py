"""`python -m serving.client.health`, as an image's health check runs it."""

import asyncio
import os
import sys

import pytest

from tests.integration.toy_server import serving, started, toy_manifest


async def health(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.client.health", *arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_it_tells_a_server_that_takes_calls_from_one_that_does_not_yet() -> None:
    async with started() as toy:
        address = f"127.0.0.1:{toy.server.port}"
        assert await health("--server", address) == (1, f"{address}: NOT_SERVING\n")
        toy.add(toy_manifest())
        await toy.server.serve()
        assert await health("--server", address) == (0, f"{address}: SERVING\n")
        await toy.server.drain()
        assert await health("--server", address) == (1, f"{address}: NOT_SERVING\n")
    status, said = await health("--server", address)
    assert status == 1
    assert said.startswith(f"{address}: UNAVAILABLE: ")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_it_finds_the_server_where_the_servers_own_variable_says(host: str) -> None:
    async with serving() as toy:
        assert (await health(DRAGOMAN_LISTEN=f"{host}:{toy.server.port}"))[0] == 0
