"""Commands where ``http_proxy`` is set: what is near is reached directly, what is far through the proxy."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.toy_server import serving

ROOT = Path(__file__).parents[2]
NOWHERE = "http://me:secret@127.0.0.1:9"  # nothing listens on the discard port


async def command(*arguments: str, proxy: str = NOWHERE) -> tuple[int | None, str]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=environment | {"http_proxy": proxy},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@asynccontextmanager
async def proxy_to(port: int, asked: list[str]) -> AsyncIterator[str]:
    """An HTTP proxy that takes every CONNECT to ``port``."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_on_this_machine_is_reached_directly(host: str) -> None:
    async with serving() as toy:
        address = f"{host}:{toy.server.port}"
        assert await command("-m", "serving.client", "--server", address, "abc") == (0, "abc\n")
        assert await command("-m", "serving.client.health", "--server", address) == (0, f"{address}: SERVING\n")


async def test_a_server_far_away_is_reached_through_the_proxy() -> None:
    asked: list[str] = []
    async with serving() as toy, proxy_to(toy.server.port, asked) as proxy:
        done = await command("-m", "serving.client", "--server", "translate.example.com:443", "abc", proxy=proxy)
    assert done == (0, "abc\n")
    assert asked == ["CONNECT translate.example.com:443 HTTP/1.1"]


@pytest.mark.parametrize("module", ["serving.client", "serving.client.health"])
async def test_an_error_names_the_proxy_and_not_its_password(module: str) -> None:
    text = ["abc"] if module == "serving.client" else []
    status, said = await command("-m", module, "--server", "translate.example.com:443", "--deadline", "1", *text)
    assert status == 1
    assert "(through the proxy 127.0.0.1:9)" in said
    assert "secret" not in said


async def test_the_demonstration_runs() -> None:
    status, said = await command("scripts/demo.py")
    assert status == 0, said
    assert "server stopped by SIGTERM with exit status 0" in said
