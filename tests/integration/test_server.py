"""The server around its RPCs: models, health, reflection, request ids, metrics over HTTP, logs."""

import asyncio
import io
import json
import logging
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import grpc
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from serving.api.admission import Phase
from serving.api.server import SERVICE
from serving.bundle.manifest import Manifest
from serving.errors import StartupError
from serving.observability.json_logs import JsonFormatter
from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.toy_server import (
    NAN_TEXT,
    Toy,
    eventually,
    failure,
    request,
    serving,
    started,
    toy_config,
    toy_manifest,
    trailing,
)

GRPC = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": "Translate"}


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving() as toy:
        yield toy


# --- models ----------------------------------------------------------------------------------------------------------


async def test_a_model_is_described_with_its_verification_record(toy: Toy) -> None:
    model = (await toy.stub.GetModel(pb.GetModelRequest())).model
    assert (model.name, model.version, model.is_default) == ("toy", 1, True)
    assert (model.source_language, model.target_language) == ("en", "fr")
    assert model.architecture.family == "toy"
    sizes = {"layers": "2", "norm": '"pre"', "dropout": "0.1", "tied": "true"}
    assert dict(model.architecture.sizes) == sizes
    assert (model.limits.max_source_tokens, model.limits.max_target_tokens) == (60, 80)
    assert (model.limits.max_beam_size, model.limits.max_contents) == (8, 16)
    assert (model.defaults.beam_size, model.defaults.length_penalty) == (2, 0.5)
    assert (model.precision, model.device) == ("fp32", "cpu")
    assert model.verification.sentences == 500
    assert model.verification.reference_bleu == 41.5
    assert not model.verification.HasField("export_bleu")


async def test_names_and_versions_are_resolved() -> None:
    async with started(toy_config(default_model="b")) as toy:
        for name, version in (("a", 1), ("b", 1), ("b", 10), ("b", 9)):
            toy.add(toy_manifest(name, version))
        await toy.server.serve()
        listed = (await toy.stub.ListModels(pb.ListModelsRequest())).models
        assert [(m.name, m.version, m.is_default) for m in listed] == [
            ("a", 1, False),
            ("b", 10, True),
            ("b", 9, False),
            ("b", 1, False),
        ]
        for name, version, label in (("", 0, "b/10"), ("b", 9, "b/9"), ("", 1, "b/1"), ("a", 0, "a/1")):
            answer = await toy.stub.Translate(pb.TranslateRequest(contents=["x"], model=name, version=version))
            assert f"{answer.model}/{answer.version}" == label
            assert len(toy.runners[label].counts.sources) == 1


async def test_several_models_without_a_default_need_a_name() -> None:
    async with started() as toy:
        toy.add(toy_manifest("a"))
        toy.add(toy_manifest("b"))
        await toy.server.serve()
        error = await failure(toy.stub.Translate(request("x")))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "take one of a, b" in str(error.details())


async def test_a_server_without_its_models_does_not_start_to_serve() -> None:
    async with started() as toy:
        with pytest.raises(StartupError, match="no model"):
            await toy.server.serve()
    async with started(toy_config(default_model="nope")) as toy:
        toy.add(toy_manifest())
        with pytest.raises(StartupError, match="'nope' is not loaded; loaded: toy"):
            await toy.server.serve()


@pytest.mark.parametrize("place", ["listen", "http"])
async def test_a_port_that_is_taken_is_a_startup_error(toy: Toy, place: str) -> None:
    port = toy.server.port if place == "listen" else toy.server.http.port
    with pytest.raises(StartupError, match=f"127.0.0.1:{port}"):
        async with started(toy_config(**{place: f"127.0.0.1:{port}"})):
            pytest.fail("two servers listen on one port")


# --- health and reflection -------------------------------------------------------------------------------------------


async def health(toy: Toy, service: str) -> str:
    stub = health_pb2_grpc.HealthStub(toy.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_follows_the_life_of_the_server(service: str) -> None:
    async with started() as toy:
        watch = health_pb2_grpc.HealthStub(toy.channel).Watch(health_pb2.HealthCheckRequest(service=service))
        assert await health(toy, service) == "NOT_SERVING"
        toy.add(toy_manifest())
        await toy.server.serve()
        assert await health(toy, service) == "SERVING"
        await toy.server.drain()
        assert await health(toy, service) == "NOT_SERVING"
        seen = [(await watch.read()).status for _ in range(2)]
        assert seen[-1] in (1, 2)  # a watch may skip what passed too quickly, it never ends by itself
        watch.cancel()


async def test_health_of_an_unknown_service_is_not_found(toy: Toy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(toy, "nope")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_engine_that_fails_turns_health_off_and_on_again(toy: Toy) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    toy.runner.before_encode = fault
    for text in "xyz":  # one text again and again would be refused
        await failure(toy.stub.Translate(request(text)))
    async with asyncio.timeout(30):
        while await health(toy, "") != "NOT_SERVING":
            await asyncio.sleep(0.05)
    assert (await get(toy, "/healthz"))[0] == 503
    assert toy.sample("dragoman_model_ready", model="toy/1") == 0
    toy.runner.before_encode = lambda: None
    await toy.stub.Translate(request("x"))
    async with asyncio.timeout(30):
        while await health(toy, "") != "SERVING":
            await asyncio.sleep(0.05)


async def test_reflection_lists_every_service(toy: Toy) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(toy.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    (answer,) = [answer async for answer in call]
    assert {service.name for service in answer.list_services_response.service} == {
        SERVICE,
        "google.cloud.translation.v3.TranslationService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


# --- request ids, retries --------------------------------------------------------------------------------------------


async def test_a_request_id_comes_back_whatever_happens(toy: Toy) -> None:
    good = toy.stub.Translate(request("x"), metadata=(("x-request-id", "mine"),))
    await good
    assert dict(await good.trailing_metadata())["x-request-id"] == "mine"
    bad = await failure(toy.stub.Translate(request(), metadata=(("x-request-id", "mine-too"),)))
    assert trailing(bad)["x-request-id"] == "mine-too"
    without = toy.stub.Translate(request("x"))
    await without
    assert len(dict(await without.trailing_metadata())["x-request-id"]) == 32


async def test_the_retry_of_grpc_itself_outlasts_a_refusal(toy: Toy) -> None:
    policy = {"maxAttempts": 3, "initialBackoff": "60s", "maxBackoff": "60s", "backoffMultiplier": 1}
    policy |= {"retryableStatusCodes": ["UNAVAILABLE"]}
    config = {"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": policy}]}
    target, options = f"127.0.0.1:{toy.server.port}", [("grpc.service_config", json.dumps(config))]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        toy.server.admission.phase = Phase.DRAINING
        call = TranslationServiceStub(channel).Translate(request("x"), timeout=30)
        await eventually(lambda: toy.sample("grpc_server_handled_total", **GRPC, grpc_code="UNAVAILABLE") == 1)
        toy.server.admission.phase = Phase.SERVING
        assert (await call).translations[0].hypotheses[0].text == "x"  # after our pushback, not after the policy's 60 s
        assert toy.sample("grpc_server_started_total", **GRPC) == 2


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def get(toy: Toy, path: str, accept: str = "*/*") -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        asked = urllib.request.Request(f"http://127.0.0.1:{toy.server.http.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


COUNTED = {
    "dragoman_requests": {"model", "method", "code"},
    "dragoman_refused_calls": {"method", "reason"},
    "dragoman_retried_calls": {"method"},
    "dragoman_discarded_seconds": {"model", "method", "code"},
    "dragoman_rejections": {"model", "reason"},
    "dragoman_dropped_sentences": {"model", "reason"},
    "dragoman_sentences": {"model", "outcome"},
    "dragoman_finish_reasons": {"model", "reason"},
    "dragoman_quality_flags": {"model", "flag"},
    "dragoman_source_tokens": {"model"},
    "dragoman_padding_tokens": {"model"},
    "dragoman_target_tokens": {"model"},
    "grpc_server_started": {"grpc_type", "grpc_service", "grpc_method"},
    "grpc_server_handled": {"grpc_type", "grpc_service", "grpc_method", "grpc_code"},
}
READ = {
    "dragoman_calls_in_flight": set[str](),
    "dragoman_build_info": {"version", "onnxruntime", "execution_provider"},
    **{
        f"dragoman_{name}": {"model"}
        for name in (
            "queue_depth",
            "queue_tokens",
            "queue_oldest_age_seconds",
            "running_slots",
            "kv_bytes",
            "model_loaded",
            "model_ready",
            "model_draining",
        )
    },
}
MEASURED = {
    "grpc_server_handling_seconds": {"grpc_type", "grpc_service", "grpc_method"},
    "dragoman_request_seconds": {"model", "method"},
    "dragoman_event_loop_lag_seconds": set[str](),
    "dragoman_batch_rows": {"model", "phase"},
    **{
        f"dragoman_{name}": {"model"}
        for name in (
            "queue_seconds",
            "tokenize_seconds",
            "encode_seconds",
            "step_seconds",
            "time_to_first_token_seconds",
            "detokenize_seconds",
            "padding_ratio",
            "source_length_tokens",
            "target_length_tokens",
        )
    },
}


async def test_every_metric_is_exposed_with_its_labels(toy: Toy) -> None:
    await toy.stub.Translate(request("a", "longer", beam_size=4))
    await failure(toy.stub.Translate(request()))
    toy.server.admission.phase = Phase.DRAINING
    await failure(toy.stub.Translate(request("x")))
    await eventually(lambda: bool(toy.sample("dragoman_event_loop_lag_seconds_count")))
    status, text = await get(toy, "/metrics", accept="text/plain;version=0.0.4")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for kind, expected in (("counter", COUNTED), ("gauge", READ), ("histogram", MEASURED)):
        for name, labels in expected.items():
            assert families[name].type == kind, name
            for sample in families[name].samples:
                assert set(sample.labels) - {"le"} == labels, name
    for name in MEASURED:
        counts = [sample.value for sample in families[name].samples if sample.name == f"{name}_count"]
        assert counts, name
        assert min(counts) > 0, f"{name} is never observed"
    (info,) = families["dragoman_build_info"].samples
    assert info.labels["execution_provider"] == "CPUExecutionProvider"
    assert info.labels["onnxruntime"] == onnxruntime.__version__
    assert families["dragoman_kv_bytes"].samples[0].value > 0


async def test_openmetrics_is_spoken_to_who_asks_for_it(toy: Toy) -> None:
    status, text = await get(toy, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert text.endswith("# EOF\n")


async def test_gauges_return_to_zero(toy: Toy) -> None:
    names = ("queue_depth", "queue_tokens", "queue_oldest_age_seconds", "running_slots", "running_rows")
    with toy.held():
        calls = [toy.stub.Translate(request("ab", "cd", beam_size=beam)) for beam in (1, 2, 4)]
        await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 3)
        await eventually(lambda: (toy.sample("dragoman_running_slots", model="toy/1") or 0) > 0)
    await asyncio.gather(*calls)
    await eventually(lambda: toy.sample("dragoman_calls_in_flight") == 0)
    for name in names:
        await eventually(lambda name=name: toy.sample(f"dragoman_{name}", model="toy/1") == 0)  # type: ignore[misc]


async def test_probes_over_http_follow_the_life_of_the_server() -> None:
    async with started() as toy:
        assert [(await get(toy, path))[0] for path in ("/healthz", "/readyz")] == [200, 503]
        toy.add(toy_manifest())
        await toy.server.serve()
        assert [(await get(toy, path))[0] for path in ("/healthz", "/readyz")] == [200, 200]
        await toy.server.drain()
        assert [(await get(toy, path))[0] for path in ("/healthz", "/readyz")] == [200, 503]
        assert (await get(toy, "/elsewhere"))[0] == 404


# --- logs ------------------------------------------------------------------------------------------------------------

SECRET = "Zanzibar"


async def test_logs_tell_of_every_call_and_never_the_text(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        await toy.stub.Translate(request(SECRET), metadata=(("x-request-id", "good"),))
        await failure(toy.stub.Translate(request(SECRET, beam_size=77, target_prefixes=[SECRET] * 3)))
        too_long = request(SECRET * 20)
        too_long.long_input_policy = pb.LONG_INPUT_POLICY_REJECT
        await failure(toy.stub.Translate(too_long))
        await failure(toy.stub.Translate(request(SECRET + NAN_TEXT)))
        monkeypatch.setattr(toy.runner, "before_step", lambda: int(SECRET))
        await failure(toy.stub.Translate(request(SECRET)))
        monkeypatch.setattr("serving.api.servicer.to_domain", lambda *_, **__: int(SECRET))
        await failure(toy.stub.Translate(request(SECRET), metadata=(("x-request-id", "bug"),)))
    finally:
        root.removeHandler(handler)
    assert SECRET.lower() not in stream.getvalue().lower()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    calls = [line for line in lines if line["event"] == "call"]
    codes = ["OK", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INTERNAL", "INTERNAL", "INTERNAL"]
    assert [line["code"] for line in calls] == codes
    good = calls[0]
    assert good["request_id"] == "good"
    assert (good["method"], good["model"], good["contents"]) == ("Translate", "toy/1", 1)
    assert {
        "ts",
        "level",
        "seconds",
        "source_tokens",
        "target_tokens",
        "queue_seconds",
        "compute_seconds",
    } <= good.keys()
    (bug,) = [line for line in lines if line["event"] == "internal_error" and line["request_id"] == "bug"]
    assert bug["exception"][0]["type"] == "builtins.ValueError"


async def test_a_model_is_chosen_by_its_languages() -> None:
    several = toy_manifest("several").model_dump()
    several["languages"] = {"sources": {"de": {}, "es": {}}, "targets": {"fr": {}, "it": {}}}
    async with serving() as toy:
        toy.add(Manifest.model_validate(several))
        listed = (await toy.stub.ListModels(pb.ListModelsRequest())).models
        assert [(m.name, m.source_language, m.target_language) for m in listed] == [
            ("several", "", ""),
            ("toy", "en", "fr"),
        ]
        assert list(listed[0].source_languages) == ["de", "es"]
        assert list(listed[0].target_languages) == ["fr", "it"]

        async def ask(source: str, target: str) -> str:
            asked = pb.TranslateRequest(contents=["ab"], source_language=source, target_language=target)
            return (await toy.stub.Translate(asked)).model

        assert [await ask("es", "it"), await ask("EN", "fr"), await ask("en", "")] == ["several", "toy", "toy"]
        for source, target, problem in (
            ("", "fr", "several translate into fr; take one of several, toy"),
            ("it", "", "none translates from it; served: de, es to fr, it by several/1, en to fr by toy/1"),
        ):
            asked = pb.TranslateRequest(contents=["a"], source_language=source, target_language=target)
            error = await failure(toy.stub.Translate(asked))
            assert problem in str(error.details())
