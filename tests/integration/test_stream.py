"""Streams over a real server: deltas that add up, and every rule that holds for unary calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio

from serving.api.admission import Phase
from serving.client import (
    AsyncTranslationClient,
    CallCancelled,
    DeadlinePassed,
    InvalidRequest,
    Options,
    Result,
    TextDelta,
    TranslationClient,
)
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import NAN_TEXT, Toy, detail, eventually, request, serving, started, toy_config

GRPC = {"grpc_type": "server_stream", "grpc_method": "TranslateStream"}


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


def stream(toy: Toy, *contents: str, timeout: float | None = None, **options: object) -> aio.UnaryStreamCall:  # type: ignore[type-arg] # generic in the stubs only
    asked = pb.TranslateStreamRequest(translate=request(*contents, **options))
    return toy.stub.TranslateStream(asked, timeout=timeout)


async def failure(call: aio.UnaryStreamCall) -> aio.AioRpcError:  # type: ignore[type-arg] # generic in the stubs only
    with pytest.raises(aio.AioRpcError) as failed:
        async for _ in call:
            pass
    return failed.value


@pytest.mark.parametrize("beam", [1, 4])
async def test_the_last_message_is_the_answer_and_the_deltas_are_its_texts(toy: Toy, beam: int) -> None:
    texts = ["a long sentence, and. Another one.\n\n- some list", "", "WHERE IS IT NOW?", "12"]
    messages = [message async for message in stream(toy, *texts, beam_size=beam)]
    assert [message.WhichOneof("event") for message in messages] == ["delta"] * (len(messages) - 1) + ["answer"]
    answer = messages[-1].answer
    unary = await toy.stub.Translate(request(*texts, beam_size=beam))
    assert list(answer.translations) == list(unary.translations)
    for index, translation in enumerate(unary.translations):
        told = "".join(message.delta.text for message in messages[:-1] if message.delta.index == index)
        assert told == translation.hypotheses[0].text
    assert (answer.model, answer.source_tokens) == (unary.model, unary.source_tokens)


async def test_streams_are_counted_timed_and_logged(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async for _ in stream(toy, "abc"):
        pass
    await eventually(lambda: toy.server.admission.in_flight == 0)
    labels = GRPC | {"grpc_service": "dragoman.v1.TranslationService"}
    assert toy.sample("grpc_server_started_total", **labels) == 1
    assert toy.sample("grpc_server_handled_total", **labels, grpc_code="OK") == 1
    counted = {"model": "toy/1", "method": "TranslateStream"}
    assert toy.sample("dragoman_requests_total", **counted, code="OK") == 1
    assert toy.sample("dragoman_first_message_seconds_count", **counted) == 1
    (line,) = [vars(record) for record in caplog.records if record.getMessage() == "call"]
    assert (line["method"], line["code"], line["model"], line["contents"]) == ("TranslateStream", "OK", "toy/1", 1)
    assert 0 < line["first_message_seconds"] <= line["seconds"]
    assert line["source_tokens"] == 3


async def test_a_delta_arrives_while_the_model_works(toy: Toy) -> None:
    with toy.held() as let_pass:
        call = stream(toy, "abcdef", beam_size=1)
        let_pass(3)
        answers = aiter(call)
        first = await anext(answers)
        assert "abcdef".startswith(first.delta.text)
        assert toy.sample("dragoman_running_slots", model="toy/1") == 1
    rest = [message async for message in answers]
    assert first.delta.text + "".join(message.delta.text for message in rest) == "abcdef"


async def test_the_status_table_holds(toy: Toy) -> None:
    error = await failure(stream(toy, "abc", beam_size=99))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == "options.beam_size"
    missing = pb.TranslateStreamRequest(translate=pb.TranslateRequest(contents=["a"], model="nope"))
    assert (await failure(toy.stub.TranslateStream(missing))).code() is grpc.StatusCode.NOT_FOUND
    assert (await failure(stream(toy))).code() is grpc.StatusCode.INVALID_ARGUMENT
    raw = toy.channel.unary_stream("/dragoman.v1.TranslationService/TranslateStream", None, None)
    assert (await failure(raw(b"\xff\xff\xff garbage"))).code() is grpc.StatusCode.INVALID_ARGUMENT
    error = await failure(stream(toy, f"a{NAN_TEXT}c"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert detail(error, error_details_pb2.RequestInfo).request_id


async def test_refusals() -> None:
    async with started(toy_config(max_calls=1)) as toy:
        assert (await failure(stream(toy, "abc"))).code() is grpc.StatusCode.UNAVAILABLE
    async with serving(toy_config(max_calls=1)) as toy:
        with toy.held():
            running = stream(toy, "abc")
            await eventually(lambda: toy.server.admission.in_flight == 1)
            assert (await failure(stream(toy, "abc"))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [message async for message in running][-1].answer.model == "toy"
        refused = {"method": "TranslateStream", "reason": "calls_full"}
        assert toy.sample("dragoman_refused_calls_total", **refused) == 1


async def test_an_answer_that_is_too_large() -> None:
    async with serving(toy_config(max_message_bytes=1024)) as toy:
        asked = pb.TranslateStreamRequest(translate=request("x" * 60, beam_size=8, n_best=8))
        asked.translate.include_tokens = True
        error = await failure(toy.stub.TranslateStream(asked))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail(error, error_details_pb2.ErrorInfo).reason == "RESPONSE_TOO_LARGE"


async def test_a_cancelled_stream_frees_its_slot(toy: Toy) -> None:
    with toy.held() as let_pass:
        call = stream(toy, "a long sentence", beam_size=1)
        let_pass(4)
        await call.read()
        call.cancel()
        await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 0)
        let_pass(2)
        await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 0)
    cancelled = {"model": "toy/1", "method": "TranslateStream", "code": "CANCELLED"}
    assert toy.sample("dragoman_requests_total", **cancelled) == 1


async def test_a_deadline_ends_a_stream(toy: Toy) -> None:
    with toy.held() as let_pass:
        let_pass(4)
        error = await failure(stream(toy, "a long sentence", beam_size=1, timeout=0.5))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 0)


async def test_a_drain_lets_streams_end(toy: Toy) -> None:
    with toy.held() as let_pass:
        call = stream(toy, "accepted", beam_size=1)
        let_pass(3)
        answers = aiter(call)
        await anext(answers)
        draining = asyncio.create_task(toy.server.drain())
        await eventually(lambda: toy.server.admission.phase is Phase.DRAINING)
        assert not draining.done()
    rest = [message async for message in answers]
    assert rest[-1].answer.translations[0].hypotheses[0].text == "accepted"
    assert await draining


async def test_both_clients(toy: Toy) -> None:
    address, options = f"127.0.0.1:{toy.server.port}", Options(beam_size=1)

    def blocking() -> list[TextDelta | Result]:
        with TranslationClient(address) as client:
            return list(client.translate_stream(["abc", "de"], options, request_id="mine"))

    async with AsyncTranslationClient(address) as client:
        for events in (
            await asyncio.to_thread(blocking),
            [event async for event in client.translate_stream(["abc", "de"], options, request_id="mine")],
        ):
            result = events.pop()
            assert isinstance(result, Result)
            assert (result.request_id, [translation.text for translation in result.translations]) == (
                "mine",
                ["abc", "de"],
            )
            told = ["", ""]
            for delta in events:
                assert isinstance(delta, TextDelta)
                told[delta.index] += delta.text
            assert told == ["abc", "de"]
        with pytest.raises(InvalidRequest):
            await anext(client.translate_stream(["abc"], Options(beam_size=99)))
        with pytest.raises(TypeError, match="single str"):
            await anext(client.translate_stream("abc"))
        with toy.held():
            with pytest.raises(DeadlinePassed):
                await anext(client.translate_stream(["abc"], deadline=0.2))
            await eventually(lambda: toy.server.admission.in_flight == 0)


async def test_closing_an_iterator_cancels_its_call(toy: Toy) -> None:
    address, options = f"127.0.0.1:{toy.server.port}", Options(beam_size=1)

    def begin_and_leave() -> None:
        with TranslationClient(address) as client, pytest.raises(CallCancelled):
            events = client.translate_stream(["a long sentence"], options)
            next(events)
            client.close()
            next(events)

    with toy.held() as let_pass:
        let_pass(4)
        async with AsyncTranslationClient(address) as client:
            async with aclosing(client.translate_stream(["a long sentence"], options)) as events:
                await anext(events)
            await eventually(lambda: toy.server.admission.in_flight == 0)
        let_pass(6)
        await asyncio.to_thread(begin_and_leave)
        await eventually(lambda: toy.server.admission.in_flight == 0)
