"""Clients that idle, churn, crawl and hoard: others are answered as before, and nothing is left of them.

Each test prints how long the calls of others take beside them, for who runs it at its longer sizes on a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from loadtests.service.calls import percentile
from serving.api.server import SERVICE
from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.raw_http2 import PREFACE, WIDEST, call, opening, reset
from tests.integration.toy_server import Toy, eventually, failure, request, serving, toy_config

IDLE = int(os.environ.get("IDLE_CONNECTIONS", "200"))
CHURNED = int(os.environ.get("CHURNED_CONNECTIONS", "500"))
STREAMS = int(os.environ.get("STREAMS", "100"))
CRAWLING = int(os.environ.get("CRAWLING_CONNECTIONS", "50"))
ANSWERED = int(os.environ.get("ANSWERED_CALLS", "20"))
MOST_UNREAD = 120
STREAM = f"/{SERVICE}/TranslateStream"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


async def answered(toy: Toy, calls: int = ANSWERED) -> list[float]:
    """A client that behaves gets its answers, on a connection of its own; the seconds that each takes."""
    target, seconds = f"127.0.0.1:{toy.server.port}", []
    async with grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = TranslationServiceStub(channel)
        for number in range(calls):
            started = time.perf_counter()
            answer = await stub.Translate(request(f"text {number}"), timeout=30)
            seconds.append(time.perf_counter() - started)
            assert answer.translations[0].hypotheses[0].text == f"text {number}"
    return seconds


async def alone(toy: Toy) -> list[float]:
    """The same on a server that has warmed up and has nobody else."""
    await answered(toy, 20)
    return await answered(toy)


def tell(what: str, before: list[float], beside: list[float]) -> None:
    without, with_them = (1e3 * percentile(seconds, 99) for seconds in (before, beside))
    print(f"p99 of others {with_them:.1f} ms beside {what}, {without:.1f} ms without: {with_them / without:.2f} times")


@contextmanager
def streams(toy: Toy, *, window: int) -> Iterator[socket.socket]:
    """STREAMS calls on one connection, of whose answers so many bytes are read."""
    asked = pb.TranslateStreamRequest(translate=request("a text that nobody waits for", beam_size=1))
    with connected(toy.server.port) as one:
        message = asked.SerializeToString()
        one.sendall(opening(window=window) + b"".join(call(2 * n + 1, STREAM, message) for n in range(STREAMS)))
        yield one


def ended(toy: Toy, code: str, method: str = "TranslateStream") -> float:
    return toy.sample("dragoman_requests_total", model="toy/1", method=method, code=code) or 0


async def worked_off(toy: Toy) -> None:
    """Waits until the model has nothing to do."""
    (model,) = toy.server.models.models()
    await eventually(lambda: model.snapshot().running_slots == model.snapshot().queue_depth == 0)


async def test_idle_connections_hold_nobody_up_and_leave_nothing() -> None:
    async with serving() as toy:
        before = await alone(toy)
        files = open_files()
        with ExitStack() as stack:
            sockets = [stack.enter_context(connected(toy.server.port)) for _ in range(IDLE)]
            for one in sockets[::2]:
                one.sendall(PREFACE)
            tell(f"{IDLE} idle connections", before, await answered(toy))
        await eventually(lambda: open_files() <= files + 8)  # the two sides of some are closed a little later


async def test_connections_that_come_and_go_leave_nothing() -> None:
    async with serving() as toy:
        before = await alone(toy)
        files = open_files()

        def churn() -> None:
            for number in range(CHURNED):
                with connected(toy.server.port) as one:
                    one.sendall((PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"")[number % 4])

        _, beside = await asyncio.gather(asyncio.to_thread(churn), answered(toy))
        tell(f"{CHURNED} connections that come and go", before, beside)
        await eventually(lambda: open_files() <= files + 8)


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.server._HANDSHAKE_MS", 500)
    async with serving() as toy:

        def crawl() -> bytes:
            with connected(toy.server.port) as one:
                one.settimeout(20)
                for byte in PREFACE[:3]:
                    one.sendall(bytes([byte]))
                while data := one.recv(1024):  # the server's settings come first
                    assert len(data) < 1024
                return data

        assert await asyncio.to_thread(crawl) == b""
        await answered(toy)


async def test_who_never_ends_a_request_for_metrics_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.metrics_endpoint._Handler.timeout", 0.5)
    async with serving() as toy:
        threads = threading.active_count()

        def crawl() -> None:
            with connected(toy.server.http.port) as one, suppress(ConnectionError):
                one.settimeout(0.05)
                one.sendall(b"GET /healthz HTTP/1.1\r\nA: ")
                while True:
                    one.sendall(b"a")
                    with suppress(TimeoutError):
                        assert one.recv(1) == b""
                        return

        await asyncio.to_thread(crawl)
        await eventually(lambda: threading.active_count() <= threads + 1)  # to_thread keeps one


async def test_a_connection_without_calls_is_closed_and_opened_again() -> None:
    async with serving(toy_config(max_connection_idle=0.2)) as toy:
        await toy.stub.Translate(request("ab"))
        await eventually(lambda: toy.channel.get_state() is not grpc.ChannelConnectivity.READY)
        assert (await toy.stub.Translate(request("cd"))).translations


async def test_a_client_that_hoards_calls_is_refused_and_others_are_not() -> None:
    async with serving(toy_config(client_limits="calls=3")) as toy:
        with toy.held():
            calls = [toy.stub.Translate(request("ab"), timeout=60) for _ in range(3)]
            await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 3)
            error = await failure(toy.stub.Translate(request("cd")))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await asyncio.gather(*calls)
        assert (await toy.stub.Translate(request("cd"))).translations


async def test_many_streams_of_one_connection_are_answered_as_any() -> None:
    async with serving() as toy:
        before = await alone(toy)
        with streams(toy, window=WIDEST) as one:
            tell(f"{STREAMS} streams of one connection", before, await answered(toy))

            def read() -> None:
                while ended(toy, "OK") < STREAMS:
                    assert one.recv(1 << 16)

            await asyncio.to_thread(read)
        assert toy.server.admission.in_flight == 0


async def test_who_does_not_read_streams_holds_nobody_up() -> None:
    async with serving() as toy:
        before = await alone(toy)
        files = open_files()
        with streams(toy, window=0):
            await eventually(lambda: toy.server.admission.in_flight == STREAMS)
            await worked_off(toy)  # the model waits for no reader
            tell(f"{STREAMS} streams that nobody reads", before, await answered(toy))
            assert toy.server.admission.in_flight == STREAMS
        await eventually(lambda: toy.server.admission.in_flight == 0)
        await eventually(lambda: ended(toy, "CANCELLED") == STREAMS)  # who hangs up is no fault of the server
        await eventually(lambda: open_files() <= files + 8)


async def test_who_never_reads_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.interceptor.READ_SECONDS", 0.2)
    async with serving() as toy:
        with streams(toy, window=0):
            await eventually(lambda: ended(toy, "CANCELLED") == STREAMS)
            assert toy.server.admission.in_flight == 0
            await answered(toy)


async def test_answers_that_nobody_reads_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.server._MOST_STREAMS", MOST_UNREAD)
    async with serving() as toy:
        tasks = len(asyncio.all_tasks())
        message = request("ab", beam_size=1).SerializeToString()
        with connected(toy.server.port) as one:
            one.sendall(opening(window=0))
            for number in range(MOST_UNREAD):
                one.sendall(call(2 * number + 1, f"/{SERVICE}/Translate", message))
                await eventually(lambda done=number + 1: ended(toy, "OK", "Translate") == done)  # type: ignore[misc]
            one.sendall(call(2 * MOST_UNREAD + 1, f"/{SERVICE}/Translate", message))

            def read() -> None:
                heard = b""
                while reset(2 * MOST_UNREAD + 1) not in heard:
                    heard += one.recv(1 << 16)

            await asyncio.to_thread(read)
            await answered(toy)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 8)


async def test_who_does_not_read_events_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.web.server.READ_SECONDS", 0.5)
    async with serving(toy_config(web="127.0.0.1:0", max_contents=64)) as toy:
        assert toy.server.web is not None
        before = await alone(toy)
        files = open_files()
        texts = ["a text that makes a long answer, which nobody reads."] * 40
        body = json.dumps(
            {"contents": texts, "options": {"beam_size": 4, "n_best": 4}, "include_tokens": True}
        ).encode()
        head = "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that the system too keeps little in transit
            one.connect(("127.0.0.1", toy.server.web.port))
            await asyncio.to_thread(one.sendall, head.encode() + body)
            await eventually(lambda: toy.server.admission.in_flight == 1)
            await worked_off(toy)
            tell("events that nobody reads", before, await answered(toy))
            await eventually(lambda: toy.server.admission.in_flight == 0)
            await eventually(lambda: open_files() <= files + 8)


async def test_who_writes_byte_by_byte_holds_neither_a_place_nor_anybody_up() -> None:
    async with serving(toy_config(web="127.0.0.1:0")) as toy:
        assert toy.server.web is not None
        before = await alone(toy)
        files = open_files()
        message = request("ab").SerializeToString()
        body = json.dumps({"contents": ["ab"]}).encode()
        post = f"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        said = {toy.server.port: opening(window=WIDEST) + call(1, STREAM, message), toy.server.web.port: post}
        with ExitStack() as stack:
            crawling = [
                (stack.enter_context(connected(port)), words) for port, words in said.items() for _ in range(CRAWLING)
            ]

            def crawl(first: int, step: int) -> None:
                for place in range(first, max(map(len, said.values())) - 1, step):
                    for one, words in crawling:
                        one.sendall(words[: len(words) - 1][place : place + step])  # the last byte never comes

            await asyncio.to_thread(crawl, 0, 16)
            tell(f"{len(crawling)} clients that write byte by byte", before, await answered(toy))
            assert toy.server.admission.in_flight == 0
        await eventually(lambda: open_files() <= files + 8)
