"""The HTTP port as an HTTP client meets it: every method, paths that exist and others."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from http.client import HTTPConnection, HTTPMessage

import pytest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tests.integration.toy_server import Toy, request, serving, started, toy_config

PATHS = ["/healthz", "/readyz", "/metrics"]


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        await toy.stub.Translate(request("abc"))
        yield toy


async def ask(
    toy: Toy, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, HTTPMessage, bytes]:
    def exchange() -> tuple[int, HTTPMessage, bytes]:
        connection = HTTPConnection("127.0.0.1", toy.server.http.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


@pytest.mark.parametrize("path", [*PATHS, "/metrics?name=x", "/elsewhere", "/", "/healthz/"])
async def test_head_is_get_without_the_body(toy: Toy, path: str) -> None:
    status, headers, body = await ask(toy, "GET", path)
    assert status == (200 if path.partition("?")[0] in PATHS else 404)
    assert int(headers["Content-Length"]) == len(body) > 0
    assert "charset=utf-8" in headers["Content-Type"]
    head_status, head_headers, nothing = await ask(toy, "HEAD", path)
    assert (head_status, nothing) == (status, b"")
    assert head_headers["Content-Type"] == headers["Content-Type"]
    assert int(head_headers["Content-Length"]) > 0


async def test_head_tells_that_a_server_is_not_ready() -> None:
    async with started() as toy:
        assert (await ask(toy, "HEAD", "/readyz"))[0] == 503


@pytest.mark.parametrize("path", [*PATHS, "*"])
async def test_options_names_the_methods(toy: Toy, path: str) -> None:
    status, headers, body = await ask(toy, "OPTIONS", path)
    assert (status, headers["Allow"], body) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("size", [0, 50_000])
async def test_other_methods_are_not_allowed(toy: Toy, method: str, size: int) -> None:
    status, headers, body = await ask(toy, method, "/metrics", b"x" * size)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD, OPTIONS", b"allowed: GET, HEAD, OPTIONS\n")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize("path", ["/elsewhere", "//[", "/metrics/x", "/../healthz"])
async def test_paths_that_do_not_exist_are_not_found(toy: Toy, method: str, path: str) -> None:
    assert (await ask(toy, method, path))[0] == 404


async def test_a_method_that_nobody_knows_is_told_so_in_plain_text(toy: Toy) -> None:
    status, headers, body = await ask(toy, "BREW", "/metrics")
    assert (status, headers.get_content_type()) == (501, "text/plain")
    assert body == b"Unsupported method ('BREW')\n"


async def test_a_fault_is_answered_and_logged(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Collector):
        def describe(self) -> Iterable[Metric]:
            return ()

        def collect(self) -> Iterable[Metric]:
            raise ZeroDivisionError

    toy.server.metrics.registry.register(Broken())
    assert (await ask(toy, "GET", "/metrics"))[0] == 500
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["http_failed"]
    assert (await ask(toy, "GET", "/healthz"))[0] == 200


async def test_the_server_header_tells_no_version(toy: Toy) -> None:
    assert (await ask(toy, "GET", "/healthz"))[1]["Server"].strip() == "dragoman"


async def test_a_name_of_another_site_sees_no_metrics(toy: Toy) -> None:
    status, _, said = await ask(toy, "GET", "/metrics", Host="evil.example:8080")
    assert status == 403
    assert b"--allowed-hosts" in said
    assert (await ask(toy, "GET", "/healthz", Host="evil.example"))[0] == 200
    assert (await ask(toy, "GET", "/metrics", Host="localhost"))[0] == 200


async def test_a_profile_is_for_who_may_operate_a_server(toy: Toy) -> None:
    assert (await ask(toy, "GET", "/debug/profile"))[0] == 404  # without --admin
    async with serving(toy_config(admin="127.0.0.1:0")) as operated:
        status, headers, body = await ask(operated, "GET", "/debug/profile?seconds=0.2")
        assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        stacks = [line.rsplit(" ", 1) for line in body.decode().splitlines()]
        assert all(int(count) > 0 for _, count in stacks)
        assert any(stack.startswith("engine-toy/1-0;threading.Thread._bootstrap") for stack, _ in stacks)
        for bad in ("0", "61", "x", "nan", "-1"):
            assert (await ask(operated, "GET", f"/debug/profile?seconds={bad}"))[0] == 400
        both = await asyncio.gather(*(ask(operated, "GET", "/debug/profile?seconds=1") for _ in range(2)))
        assert sorted(status for status, _, _ in both) == [200, 409]
