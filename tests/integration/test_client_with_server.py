"""Our client and our server understand each other: each error arrives as what it left as."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.api.admission import Phase
from serving.client import (
    AsyncTranslationClient,
    DeadlinePassed,
    InvalidRequest,
    ModelNotFound,
    Options,
    ServerFault,
    ServerOverloaded,
    TranslationClient,
)
from tests.integration.toy_server import NAN_TEXT, Toy, eventually, serving, toy_config


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving(toy_config(max_calls=2)) as toy:
        yield toy


@pytest.fixture
async def client(toy: Toy) -> AsyncIterator[AsyncTranslationClient]:
    async with AsyncTranslationClient(f"127.0.0.1:{toy.server.port}") as client:
        yield client


async def test_translations_and_models(toy: Toy, client: AsyncTranslationClient) -> None:
    result = await client.translate(["ab", ""], Options(beam_size=4, n_best=2))
    assert [translation.text for translation in result.translations] == ["ab", ""]
    assert len(result.translations[0].hypotheses) == 2
    (model,) = await client.list_models()
    assert (model.name, model.version, model.limits.max_contents) == ("toy", 1, 16)


async def test_errors(toy: Toy, client: AsyncTranslationClient) -> None:
    with pytest.raises(InvalidRequest) as invalid:
        await client.translate(["ab"], Options(beam_size=99, max_length=0))
    assert {violation.field for violation in invalid.value.violations} == {"options.beam_size", "options.max_length"}
    with pytest.raises(ModelNotFound, match="served: toy/1"):
        await client.translate(["ab"], model="nope")
    with pytest.raises(ServerFault) as fault:
        await client.translate([f"a{NAN_TEXT}c"])  # without a letter it would not reach the model
    assert fault.value.request_id
    with toy.held():
        with pytest.raises(DeadlinePassed):
            await client.translate(["ab"], deadline=0.2)
        await eventually(lambda: toy.server.admission.in_flight == 0)


async def test_an_overloaded_server_says_when_to_return(toy: Toy, client: AsyncTranslationClient) -> None:
    with toy.server.admission.call(), toy.server.admission.call(), pytest.raises(ServerOverloaded) as overloaded:
        await client.translate(["ab"])
    assert overloaded.value.retry_delay == 0.5


async def test_a_message_that_is_too_large_is_no_overload() -> None:
    async with serving(toy_config(max_message_bytes=1024)) as toy:
        address = f"127.0.0.1:{toy.server.port}"
        async with AsyncTranslationClient(address) as client:
            with pytest.raises(InvalidRequest, match="larger than max"):
                await client.translate(["x" * 2000])
            with pytest.raises(InvalidRequest, match="response would have"):
                await client.translate(["x" * 60], Options(beam_size=8, n_best=8, tokens=True))
        with TranslationClient(address) as blocking, pytest.raises(InvalidRequest, match="larger than max"):
            await asyncio.to_thread(blocking.translate, ["x" * 2000])


async def test_a_refusal_that_passes_is_not_noticed(toy: Toy, client: AsyncTranslationClient) -> None:
    toy.server.admission.phase = Phase.DRAINING
    call = asyncio.create_task(client.translate(["ab"], deadline=30))
    await eventually(lambda: toy.sample("dragoman_refused_calls_total", method="Translate", reason="draining") == 1)
    toy.server.admission.phase = Phase.SERVING
    assert (await call).translations[0].text == "ab"
