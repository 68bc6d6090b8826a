"""The status table of the public API, a test a row, against a real server."""

import asyncio
import re
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2

from serving.api.admission import Phase
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import (
    NAN_TEXT,
    Toy,
    detail,
    eventually,
    failure,
    request,
    serving,
    started,
    toy_config,
    toy_manifest,
    trailing,
)

TRANSLATE = "/dragoman.v1.TranslationService/Translate"
NAN = float("nan")


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


def bad_fields(error: grpc.aio.AioRpcError) -> dict[str, str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    entries = detail(error, error_details_pb2.BadRequest).field_violations
    assert len({entry.field for entry in entries}) == len(entries)
    return {entry.field: entry.description for entry in entries}


def retry_seconds(error: grpc.aio.AioRpcError) -> float:
    delay = detail(error, error_details_pb2.RetryInfo).retry_delay
    return float(delay.seconds + delay.nanos / 1e9)


# --- INVALID_ARGUMENT ------------------------------------------------------------------------------------------------


async def test_no_contents(toy: Toy) -> None:
    fields = bad_fields(await failure(toy.stub.Translate(pb.TranslateRequest())))
    assert list(fields) == ["contents"]


async def test_too_many_contents(toy: Toy) -> None:
    fields = bad_fields(await failure(toy.stub.Translate(request(*["a"] * 17))))
    assert "17" in fields["contents"]
    assert "16" in fields["contents"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"beam_size": 0}, "options.beam_size"),
        ({"beam_size": -1}, "options.beam_size"),
        ({"beam_size": 9}, "options.beam_size"),
        ({"beam_size": 2, "n_best": 3}, "options.n_best"),
        ({"n_best": -1}, "options.n_best"),
        ({"length_penalty": NAN}, "options.length_penalty"),
        ({"length_penalty": -1.0}, "options.length_penalty"),
        ({"min_length": -1}, "options.min_length"),
        ({"min_length": 5, "max_length": 4}, "options.min_length"),
        ({"max_length": 0}, "options.max_length"),
        ({"max_length": 81}, "options.max_length"),
        ({"no_repeat_ngram_size": -1}, "options.no_repeat_ngram_size"),
        ({"repetition_penalty": NAN}, "options.repetition_penalty"),
        ({"repetition_penalty": 0.0}, "options.repetition_penalty"),
        ({"target_prefixes": ["a", "b"]}, "options.target_prefixes"),
        ({"beam_size": 2, "sampling": pb.SamplingOptions()}, "options.beam_size"),
        ({"beam_size": 1, "sampling": pb.SamplingOptions(temperature=NAN)}, "options.sampling.temperature"),
        ({"beam_size": 1, "sampling": pb.SamplingOptions(temperature=0.0)}, "options.sampling.temperature"),
        ({"beam_size": 1, "sampling": pb.SamplingOptions(top_p=1.5)}, "options.sampling.top_p"),
        ({"beam_size": 1, "sampling": pb.SamplingOptions(top_k=-1)}, "options.sampling.top_k"),
    ],
)
async def test_a_bad_option(toy: Toy, options: dict[str, object], field: str) -> None:
    fields = bad_fields(await failure(toy.stub.Translate(request("abc", **options))))
    assert list(fields) == [field]
    assert not toy.runner.counts.sources


async def test_every_bad_field_is_named_at_once(toy: Toy) -> None:
    bad = request("abc", beam_size=99, length_penalty=NAN, repetition_penalty=-1.0, target_prefixes=["a", "b"])
    bad.long_input_policy = bad.segmentation = bad.options.early_stopping = 77  # type: ignore[assignment]
    bad.mime_type = "text/markdown"
    bad.source_language, bad.target_language = "xx", "yy"
    fields = bad_fields(await failure(toy.stub.Translate(bad)))
    assert fields.keys() == {
        "options.beam_size",
        "options.length_penalty",
        "options.repetition_penalty",
        "options.early_stopping",
        "options.target_prefixes",
        "long_input_policy",
        "segmentation",
        "mime_type",
        "source_language",
        "target_language",
    }
    assert "99" in fields["options.beam_size"]
    assert "8" in fields["options.beam_size"]


async def test_attention_of_a_model_that_does_not_tell_it(toy: Toy) -> None:
    fields = bad_fields(await failure(toy.stub.Translate(pb.TranslateRequest(contents=["a"], include_attention=True))))
    told = "is set, but toy/1 does not tell its attention; leave it out, or export the model anew"
    assert fields == {"include_attention": told}
    assert not toy.runner.counts.sources


async def test_xml_that_is_not_well_formed(toy: Toy) -> None:
    asked = request("<a>fine</a>", "<a>bad</b>")
    asked.mime_type = "text/xml"
    fields = bad_fields(await failure(toy.stub.Translate(asked)))
    assert fields == {"contents[1]": "is not well-formed XML: mismatched tag at line 1, column 8"}


async def test_a_text_too_long_under_reject(toy: Toy) -> None:
    long = "a" * 61
    asked = request("fine", long)
    asked.long_input_policy = pb.LONG_INPUT_POLICY_REJECT
    fields = bad_fields(await failure(toy.stub.Translate(asked)))
    assert list(fields) == ["contents[1]"]
    assert "61" in fields["contents[1]"]
    assert "60" in fields["contents[1]"]
    assert long not in fields["contents[1]"]


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff garbage", b"\x2a\x7f", b"\x2a\x02\xff\xfe"],
    ids=["garbage", "cut off", "contents that are no UTF-8"],
)
async def test_bytes_that_are_no_message(toy: Toy, payload: bytes) -> None:
    call = toy.channel.unary_unary(TRANSLATE, request_serializer=None, response_deserializer=None)
    error = await failure(call(payload))
    assert list(bad_fields(error)) == ["request"]
    assert "Traceback" not in str(error.details())
    assert "DecodeError" not in str(error.details())


async def test_a_language_pair_that_is_not_served(toy: Toy) -> None:
    asked = pb.TranslateRequest(contents=["a"], source_language="de", target_language="fr")
    fields = bad_fields(await failure(toy.stub.Translate(asked)))
    assert list(fields) == ["source_language"]
    assert "en to fr by toy/1" in fields["source_language"]


# --- OK --------------------------------------------------------------------------------------------------------------


async def test_blank_items_are_answered_with_blanks(toy: Toy) -> None:
    answer = await toy.stub.Translate(request("", "ab", " \n"))
    assert [translation.hypotheses[0].text for translation in answer.translations] == ["", "ab", ""]
    assert [translation.parts for translation in answer.translations] == [0, 1, 0]
    assert len(toy.runner.counts.sources) == 1


async def test_languages_may_be_given(toy: Toy) -> None:
    asked = pb.TranslateRequest(contents=["ab"], source_language="EN", target_language="fr", model="toy", version=1)
    assert (await toy.stub.Translate(asked)).translations[0].hypotheses[0].text == "ab"


# --- NOT_FOUND -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "version"), [("nope", 0), ("toy", 2), ("toy", -1), ("", 7)])
async def test_an_unknown_model_or_version(toy: Toy, model: str, version: int) -> None:
    for call in (
        toy.stub.Translate(pb.TranslateRequest(contents=["a"], model=model, version=version)),
        toy.stub.GetModel(pb.GetModelRequest(name=model, version=version)),
    ):
        error = await failure(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "served: toy/1" in str(error.details())
        assert detail(error, error_details_pb2.ErrorInfo).reason == "MODEL_NOT_FOUND"


# --- RESOURCE_EXHAUSTED ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason"), [({"max_queue_sentences": 1}, "queue_full"), ({"max_queue_tokens": 4}, "tokens_full")]
)
async def test_a_full_queue(limits: dict[str, int], reason: str) -> None:
    async with serving(toy_config(max_rows=1, **limits)) as toy:
        with toy.held():
            running = toy.stub.Translate(request("abc", beam_size=1))
            await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 1)
            waiting = toy.stub.Translate(request("abc", beam_size=1))
            await eventually(lambda: toy.sample("dragoman_queue_depth", model="toy/1") == 1)
            error = await failure(toy.stub.Translate(request("abc", beam_size=1)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_seconds(error) > 0
        assert detail(error, error_details_pb2.ErrorInfo).reason == reason.upper()
        assert toy.sample("dragoman_rejections_total", model="toy/1", reason=reason) == 1
        for call in (running, waiting):
            assert (await call).translations[0].hypotheses[0].text == "abc"


async def test_the_rate_limit() -> None:
    async with serving(toy_config(max_calls_per_second=0.001)) as toy:
        await toy.stub.Translate(request("abc"))
        error = await failure(toy.stub.Translate(request("abc")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_seconds(error) > 100
        assert toy.sample("dragoman_refused_calls_total", method="Translate", reason="rate_limit") == 1


async def test_too_many_calls_in_flight() -> None:
    async with serving(toy_config(max_calls=1)) as toy:
        with toy.held():
            running = toy.stub.Translate(request("abc"))
            await eventually(lambda: toy.server.admission.in_flight == 1)
            error = await failure(toy.stub.Translate(request("abc")))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_seconds(error) > 0
        await running


async def test_a_message_that_is_too_large() -> None:
    async with serving(toy_config(max_message_bytes=1024)) as toy:
        error = await failure(toy.stub.Translate(request("x" * 2000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await toy.stub.Translate(request("abc"))


async def test_an_answer_that_is_too_large(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(toy_config(max_message_bytes=1024)) as toy:
        asked = request("x" * 60, beam_size=8, n_best=8)
        asked.include_tokens = True
        error = await failure(toy.stub.Translate(asked))
        fields = bad_fields(error)
        assert re.fullmatch(r"the response would have \d+,\d{3} bytes, .* 1,024 .* n_best.*", fields["contents"])
        assert detail(error, error_details_pb2.ErrorInfo).reason == "RESPONSE_TOO_LARGE"
        counted = {"model": "toy/1", "method": "Translate"}
        assert toy.sample("dragoman_requests_total", **counted, code="INVALID_ARGUMENT") == 1
        assert toy.sample("dragoman_requests_total", **counted, code="OK") is None
        assert toy.server.admission.in_flight == 0
        await toy.stub.Translate(request("x" * 60))
    calls = [record.code for record in caplog.records if record.getMessage() == "call"]  # type: ignore[attr-defined]
    assert calls == ["INVALID_ARGUMENT", "OK"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# --- DEADLINE_EXCEEDED, CANCELLED ------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_in_the_queue_never_reaches_the_encoder() -> None:
    async with serving(toy_config(max_rows=1)) as toy:
        with toy.held():
            running = toy.stub.Translate(request("first", beam_size=1))
            await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 1)
            error = await failure(toy.stub.Translate(request("second", beam_size=1), timeout=0.3))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(lambda: toy.server.admission.in_flight == 1)
        await running
        await eventually(lambda: toy.sample("dragoman_queue_depth", model="toy/1") == 0)
        assert len(toy.runner.counts.sources) == 1
        reasons = ("deadline", "cancelled")
        dropped = [toy.sample("dragoman_dropped_sentences_total", model="toy/1", reason=r) or 0 for r in reasons]
        assert sum(dropped) == 1
        handled = {"grpc_type": "unary", "grpc_service": "dragoman.v1.TranslationService", "grpc_method": "Translate"}
        # A deadline reaches the server as the caller's cancel; that it was late is told by the clock, within limits.
        codes = ("DEADLINE_EXCEEDED", "CANCELLED")
        assert sum(toy.sample("grpc_server_handled_total", **handled, grpc_code=code) or 0 for code in codes) == 1


async def test_a_deadline_that_passes_while_decoding_ends_the_call(toy: Toy) -> None:
    with toy.held():
        error = await failure(toy.stub.Translate(request("abc"), timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 0)
    assert toy.sample("dragoman_sentences_total", model="toy/1", outcome="ok") == 0


async def test_slots_of_a_caller_who_went_away_are_free_within_two_steps(toy: Toy) -> None:
    with toy.held() as let_pass:
        calls = [toy.stub.Translate(request("a long sentence", "another one", beam_size=beam)) for beam in (1, 4)]
        stays = toy.stub.Translate(request("this one stays", beam_size=4))
        await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 3)
        let_pass(8)
        await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 5)
        for call in calls:
            call.cancel()
        await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 1)
        let_pass(4)  # two grids, two steps each
        await eventually(lambda: toy.sample("dragoman_running_slots", model="toy/1") == 1)
        assert toy.sample("dragoman_cancel_steps_count", model="toy/1") == 4
        assert toy.sample("dragoman_cancel_steps_bucket", model="toy/1", le="2.0") == 4
    assert (await stays).translations[0].hypotheses[0].text == "this one stays"
    cancelled = {"model": "toy/1", "method": "Translate", "code": "CANCELLED"}
    assert toy.sample("dragoman_requests_total", **cancelled) == 2
    assert (toy.sample("dragoman_discarded_seconds_total", **cancelled) or 0) > 0
    assert toy.sample("dragoman_sentences_total", model="toy/1", outcome="cancelled") == 4


# --- UNAVAILABLE -----------------------------------------------------------------------------------------------------


async def test_a_server_that_loads() -> None:
    async with started() as toy:
        for call in (
            toy.stub.Translate(request("abc")),
            toy.stub.ListModels(pb.ListModelsRequest()),
            toy.stub.GetModel(pb.GetModelRequest()),
        ):
            error = await failure(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert retry_seconds(error) > 0
            assert detail(error, error_details_pb2.ErrorInfo).reason == "LOADING"
        toy.add(toy_manifest())
        await toy.server.serve()
        await toy.stub.Translate(request("abc"))


async def test_a_server_that_drains_finishes_what_it_accepted(toy: Toy) -> None:
    with toy.held():
        running = toy.stub.Translate(request("accepted"))
        await eventually(lambda: toy.server.admission.in_flight == 1)
        draining = asyncio.create_task(toy.server.drain())
        await eventually(lambda: toy.server.admission.phase is Phase.DRAINING)
        error = await failure(toy.stub.Translate(request("too late")))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_seconds(error) > 0
        assert toy.sample("dragoman_model_draining", model="toy/1") == 1
        assert toy.sample("dragoman_model_ready", model="toy/1") == 0
        assert not draining.done()
    assert (await running).translations[0].hypotheses[0].text == "accepted"
    assert await draining


async def test_a_drain_ends_when_its_time_is_over() -> None:
    async with serving(toy_config(drain_timeout=0.05)) as toy:
        with toy.held():
            running = toy.stub.Translate(request("accepted"))
            await eventually(lambda: toy.server.admission.in_flight == 1)
            assert not await toy.server.drain()
        await running


# --- INTERNAL --------------------------------------------------------------------------------------------------------


def fault() -> None:
    raise ZeroDivisionError("a secret of the implementation")


async def check_internal(toy: Toy, asked: pb.TranslateRequest) -> None:
    error = await failure(toy.stub.Translate(asked, metadata=(("x-request-id", "id-7"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error; quote request id id-7 when reporting it"
    assert detail(error, error_details_pb2.RequestInfo).request_id == "id-7"
    assert b"secret" not in trailing(error)["grpc-status-details-bin"]


@pytest.mark.parametrize("hook", ["before_step", "before_encode"])
async def test_a_fault_of_the_runtime_is_hidden_and_passes(toy: Toy, hook: str) -> None:
    before = getattr(toy.runner, hook)
    setattr(toy.runner, hook, fault)
    await check_internal(toy, request("abc"))
    setattr(toy.runner, hook, before)
    assert (await toy.stub.Translate(request("abc"))).translations[0].hypotheses[0].text == "abc"


async def test_a_bug_in_the_servicer_is_hidden(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.servicer.to_response", lambda *_: fault())
    await check_internal(toy, request("abc"))


async def test_log_probabilities_that_are_no_numbers_end_their_request_only(toy: Toy) -> None:
    with toy.held():
        neighbour = toy.stub.Translate(request("abc"))
        broken = asyncio.create_task(check_internal(toy, request(f"a{NAN_TEXT}c")))
        await eventually(lambda: toy.server.admission.in_flight == 2)
    await broken
    assert (await neighbour).translations[0].hypotheses[0].text == "abc"
