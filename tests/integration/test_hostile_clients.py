"""Clients that idle, churn, crawl and hoard: others are answered as before, and nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.toy_server import Toy, eventually, failure, request, serving, toy_config

IDLE = int(os.environ.get("IDLE_CONNECTIONS", "200"))
CHURNED = int(os.environ.get("CHURNED_CONNECTIONS", "500"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def connected(toy: Toy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", toy.server.port), timeout=10)


async def answered(toy: Toy, calls: int = 20) -> None:
    """A client that behaves gets its answers, each on a connection of its own."""
    target = f"127.0.0.1:{toy.server.port}"
    async with grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = TranslationServiceStub(channel)
        for number in range(calls):
            answer = await stub.Translate(request(f"text {number}"), timeout=30)
            assert answer.translations[0].hypotheses[0].text == f"text {number}"


async def test_idle_connections_hold_nobody_up_and_leave_nothing() -> None:
    async with serving() as toy:
        await answered(toy)
        before = open_files()
        with ExitStack() as stack:
            sockets = [stack.enter_context(connected(toy)) for _ in range(IDLE)]
            for one in sockets[::2]:
                one.sendall(PREFACE)
            await answered(toy)
        await eventually(lambda: open_files() <= before + 8)  # the two sides of some are closed a little later


async def test_connections_that_come_and_go_leave_nothing() -> None:
    async with serving() as toy:
        await answered(toy)
        before = open_files()

        def churn() -> None:
            for number in range(CHURNED):
                with connected(toy) as one:
                    one.sendall((PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"")[number % 4])

        await asyncio.gather(asyncio.to_thread(churn), answered(toy, 50))
        await eventually(lambda: open_files() <= before + 8)


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.server._HANDSHAKE_MS", 500)
    async with serving() as toy:

        def crawl() -> bytes:
            with connected(toy) as one:
                one.settimeout(20)
                for byte in PREFACE[:3]:
                    one.sendall(bytes([byte]))
                while data := one.recv(1024):  # the server's settings come first
                    assert len(data) < 1024
                return data

        assert await asyncio.to_thread(crawl) == b""
        await answered(toy)


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
