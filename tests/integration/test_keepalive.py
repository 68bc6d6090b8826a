"""Connections that carry no data for long. ``KEEPALIVE_SECONDS=240`` makes it as long as a release check wants it."""

import asyncio
import os
from collections.abc import AsyncIterator

import grpc
import pytest

from serving.client import AsyncTranslationClient
from serving.client.channel import channel_options
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.toy_server import Toy, eventually, failure, request, serving

SECONDS = float(os.environ.get("KEEPALIVE_SECONDS", "30"))
CALLS = {"grpc_type": "unary", "grpc_service": "dragoman.v1.TranslationService", "grpc_method": "Translate"}


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


def channel(toy: Toy, ping_ms: int, *, while_idle: bool = False, retries: bool = False) -> grpc.aio.Channel:
    """A channel that pings as often as it says, whatever happens."""
    pings = [("grpc.keepalive_time_ms", ping_ms), ("grpc.http2.max_pings_without_data", 0)]
    pings += [("grpc.keepalive_permit_without_calls", int(while_idle)), ("grpc.enable_retries", int(retries))]
    address = f"127.0.0.1:{toy.server.port}"
    shipped = dict(channel_options(address)) if retries else {}
    return grpc.aio.insecure_channel(address, options=list((shipped | dict(pings)).items()))


@pytest.mark.timeout(SECONDS + 120)
async def test_a_call_and_an_idle_channel_outlast_their_pings(toy: Toy) -> None:
    async with (
        channel(toy, 6_000) as pinging,
        channel(toy, 6_000, while_idle=True) as idle,
        AsyncTranslationClient(f"127.0.0.1:{toy.server.port}") as client,
    ):
        assert (await TranslationServiceStub(idle).Translate(request("abc"))).translations
        with toy.held():
            call = asyncio.ensure_future(TranslationServiceStub(pinging).Translate(request("abc")))
            ours = asyncio.create_task(client.translate(["abc"], deadline=SECONDS + 60))
            left_ready = asyncio.create_task(idle.wait_for_state_change(grpc.ChannelConnectivity.READY))
            await asyncio.wait({call, ours, left_ready}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
            assert not left_ready.done()
            left_ready.cancel()
        assert (await call).translations[0].hypotheses[0].text == "abc"
        assert (await ours).translations[0].text == "abc"
        assert toy.sample("grpc_server_started_total", **CALLS) == 3
        assert toy.sample("dragoman_retried_calls_total", method="Translate") is None


async def test_a_client_that_pings_every_second_is_disconnected(toy: Toy) -> None:
    async with channel(toy, 1_000) as pinging:
        with toy.held():
            error = await failure(TranslationServiceStub(pinging).Translate(request("abc")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "pings" in str(error.details())


async def test_a_call_that_loses_its_connection_again_and_again_is_started_over_five_times_at_most(toy: Toy) -> None:
    async with channel(toy, 20, retries=True) as pinging:
        with toy.held():
            error = await failure(TranslationServiceStub(pinging).Translate(request("abc")))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            await eventually(lambda: toy.server.admission.in_flight == 0)
    assert toy.sample("grpc_server_started_total", **CALLS) == 5
    assert toy.sample("dragoman_retried_calls_total", method="Translate") == 4
    discarded = {"model": "toy/1", "method": "Translate", "code": "CANCELLED"}
    assert toy.sample("dragoman_requests_total", **discarded) == 5
    assert (toy.sample("dragoman_discarded_seconds_total", **discarded) or 0) > 0
