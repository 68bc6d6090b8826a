"""Both clients over a real channel: what they send, return, retry and raise."""

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from serving.client import (
    AlignmentLink,
    AsyncTranslationClient,
    CallCancelled,
    CallError,
    DeadlinePassed,
    EarlyStopping,
    FieldViolation,
    FinishReason,
    InvalidRequest,
    LongInput,
    MimeType,
    ModelNotFound,
    Options,
    Sampling,
    Segmentation,
    ServerFault,
    ServerOverloaded,
    ServerUnavailable,
    Token,
    TranslationClient,
)
from serving.pb import translation_service_pb2 as pb
from tests.integration.scripted_server import ScriptedService, fail, running, upper


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with running(ScriptedService()) as service:
        yield service


def test_answers_are_typed_and_in_order(service: ScriptedService) -> None:
    with TranslationClient(service.address) as client:
        result = client.translate(["one", "two"], Options(n_best=2, tokens=True, alignments=True), request_id="mine")
    assert [translation.text for translation in result.translations] == ["ONE", "TWO"]
    assert (result.model, result.version, result.request_id) == ("en-fr", 1, "mine")
    first, second = result.translations[0].hypotheses
    assert (first.score, second.score, second.text) == (-0.5, -1.5, "ONE'")
    assert first.tokens == (Token("T", -0.125),)
    assert first.alignment == (AlignmentLink(0, 1, 0, 2),)
    assert first.finish_reason is FinishReason.EOS
    assert service.request_ids == ["mine"]


def test_every_option_reaches_the_server_and_unset_ones_stay_unset(service: ScriptedService) -> None:
    options = Options(
        beam_size=4,
        n_best=2,
        length_penalty=0.0,
        early_stopping=EarlyStopping.HEURISTIC,
        min_length=3,
        max_length=9,
        no_repeat_ngram_size=2,
        repetition_penalty=1.5,
        target_prefixes=("Je",),
        sampling=Sampling(temperature=0.5, top_k=7, top_p=0.75, seed=0),
        segmentation=Segmentation.SENTENCES,
        long_input=LongInput.SPLIT,
        protect_spans=False,
        adapt_case=True,
        mime_type=MimeType.HTML,
        protected_terms=("Blue Bottle",),
        retry_repetition=False,
        tokens=True,
        alignments=True,
    )
    with TranslationClient(service.address) as client:
        client.translate(["text"], options, model="m", version=3)
        client.translate(["text"])
    assert service.requests[0] == pb.TranslateRequest(
        model="m",
        version=3,
        contents=["text"],
        options=pb.DecodingOptions(
            beam_size=4,
            n_best=2,
            length_penalty=0.0,
            early_stopping=pb.EARLY_STOPPING_HEURISTIC,
            min_length=3,
            max_length=9,
            no_repeat_ngram_size=2,
            repetition_penalty=1.5,
            target_prefixes=["Je"],
            sampling=pb.SamplingOptions(temperature=0.5, top_k=7, top_p=0.75, seed=0),
        ),
        segmentation=pb.SEGMENTATION_SENTENCES,
        long_input_policy=pb.LONG_INPUT_POLICY_SPLIT,
        protect_spans=False,
        adapt_case=True,
        mime_type="text/html",
        protected_terms=["Blue Bottle"],
        retry_repetition=False,
        include_tokens=True,
        include_alignments=True,
    )
    unset = service.requests[1].options
    for name in ("beam_size", "length_penalty", "max_length", "repetition_penalty", "sampling"):
        assert not unset.HasField(name)


def test_models_are_listed_and_described(service: ScriptedService) -> None:
    with TranslationClient(service.address) as client:
        (model,) = client.list_models()
        assert client.get_model("en-fr") == model
        with pytest.raises(ModelNotFound, match="served: en-fr/1"):
            client.get_model("xx")
    assert (model.name, model.family, model.sizes) == ("en-fr", "transformer", {"layers": "6"})
    assert (model.limits.max_contents, model.defaults.beam_size) == (64, 4)
    assert (model.verification.export_bleu, model.verification.reference_bleu) == (40.5, None)


def test_one_bare_string_is_refused(service: ScriptedService) -> None:
    with TranslationClient(service.address) as client, pytest.raises(TypeError, match="a single str"):
        client.translate("text")
    assert service.requests == []


def test_unavailable_is_tried_again_until_it_works(service: ScriptedService) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        if len(service.requests) < 3:
            return fail(context, grpc.StatusCode.UNAVAILABLE, "loading", pushback_ms=1)
        return upper(request, context)

    service.answer = answer
    with TranslationClient(service.address) as client:
        assert client.translate(["one"]).translations[0].text == "ONE"
    assert len(service.requests) == 3
    assert len(set(service.request_ids)) == 1


def test_a_server_that_forbids_retries_is_asked_once(service: ScriptedService) -> None:
    service.answer = lambda request, context: fail(context, grpc.StatusCode.UNAVAILABLE, "draining", pushback_ms=-1)
    with TranslationClient(service.address) as client, pytest.raises(ServerUnavailable, match="draining"):
        client.translate(["one"])
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, ModelNotFound),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerOverloaded),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlinePassed),
        (grpc.StatusCode.CANCELLED, CallCancelled),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.UNIMPLEMENTED, ServerFault),
    ],
)
async def test_no_other_status_is_tried_again(
    service: ScriptedService, code: grpc.StatusCode, kind: type[CallError]
) -> None:
    service.answer = lambda request, context: fail(context, code, "because")
    with TranslationClient(service.address) as client, pytest.raises(kind, match="because") as blocking:
        client.translate(["one"], request_id="r1")
    async with AsyncTranslationClient(service.address) as asynchronous:
        with pytest.raises(kind, match="because") as awaited:
            await asynchronous.translate(["one"], request_id="r2")
    assert (blocking.value.code, blocking.value.request_id) == (code, "r1")
    assert (awaited.value.code, awaited.value.request_id) == (code, "r2")
    assert len(service.requests) == 2


async def test_errors_carry_violations_and_the_retry_delay(service: ScriptedService) -> None:
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="options.beam_size", description="99 is above 8"),
            error_details_pb2.BadRequest.FieldViolation(field="contents[1]", description="too long"),
        ]
    )
    service.answer = lambda request, context: fail(context, grpc.StatusCode.INVALID_ARGUMENT, "bad", bad)
    with TranslationClient(service.address) as client, pytest.raises(InvalidRequest) as invalid:
        client.translate(["one"])
    assert invalid.value.violations == (
        FieldViolation("options.beam_size", "99 is above 8"),
        FieldViolation("contents[1]", "too long"),
    )
    later = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    service.answer = lambda request, context: fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "full", later)
    async with AsyncTranslationClient(service.address) as asynchronous:
        with pytest.raises(ServerOverloaded) as overloaded:
            await asynchronous.translate(["one"])
    assert overloaded.value.retry_delay == 1.5


def test_a_broken_rich_status_still_gives_the_plain_one(service: ScriptedService) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.INTERNAL, "plain")
        raise AssertionError

    service.answer = answer
    with TranslationClient(service.address) as client, pytest.raises(ServerFault, match="plain"):
        client.translate(["one"])


async def test_the_deadline_is_the_calls_or_else_the_clients(service: ScriptedService) -> None:
    left: list[float] = []

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        left.append(context.time_remaining())
        return upper(request, context)

    service.answer = answer
    with TranslationClient(service.address, deadline=1000) as client:
        client.translate(["one"])
        client.translate(["one"], deadline=100)
    async with AsyncTranslationClient(service.address, deadline=1000) as asynchronous:
        await asynchronous.translate(["one"])
        await asynchronous.translate(["one"], deadline=100)
    assert [seconds > 200 for seconds in left] == [True, False, True, False]


def test_a_passed_deadline_is_raised(service: ScriptedService) -> None:
    release = threading.Event()

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        release.wait()
        return upper(request, context)

    service.answer = answer
    with TranslationClient(service.address) as client, pytest.raises(DeadlinePassed):
        client.translate(["one"], deadline=0.05)
    release.set()


async def test_the_asyncio_client_has_calls_in_flight_together_and_describes_models(service: ScriptedService) -> None:
    together = threading.Barrier(8)  # nobody is answered before eight have come

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        together.wait()
        return upper(request, context)

    service.answer = answer
    async with AsyncTranslationClient(service.address) as client:
        results = await asyncio.gather(*(client.translate([f"text {number}"]) for number in range(8)))
        (model,) = await client.list_models()
        assert await client.get_model() == model
    assert [result.translations[0].text for result in results] == [f"TEXT {number}" for number in range(8)]


async def test_cancelling_a_task_cancels_its_call_on_the_server(service: ScriptedService) -> None:
    begun, ended = threading.Event(), threading.Event()

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        context.add_callback(ended.set)
        begun.set()
        ended.wait()
        return upper(request, context)

    service.answer = answer
    async with AsyncTranslationClient(service.address) as client:
        task = asyncio.create_task(client.translate(["one"]))
        assert await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 10)


def test_closing_the_client_ends_calls_in_flight(service: ScriptedService) -> None:
    begun, release = threading.Event(), threading.Event()

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        begun.set()
        release.wait()
        return upper(request, context)

    service.answer = answer
    client = TranslationClient(service.address)
    failures: list[CallError] = []

    def call() -> None:
        try:
            client.translate(["one"])
        except CallError as error:
            failures.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(10)
    client.close()
    caller.join(10)
    release.set()
    assert [type(failure) for failure in failures] == [CallCancelled]
