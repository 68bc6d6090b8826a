"""One request seen whole by a collector, and nothing seen where nothing is asked for."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.exposition import generate_latest

from loadtests.service.span_collector import SpanCollector, collecting
from serving.errors import StartupError
from serving.observability.tracing import CallTracer
from tests.integration.toy_server import Toy, eventually, failure, request, serving, toy_config
from tests.integration.web_client import ask

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PHASES = ["tokenize", "queue", "encode", "decode", "detokenize"]


@pytest.fixture
def collector() -> Iterator[SpanCollector]:
    with collecting() as collector:
        yield collector


def traceparent(sampled: bool) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{TRACE}-{CALLER}-0{int(sampled)}"),)


def metrics_of(toy: Toy) -> str:
    return str(generate_latest(toy.server.metrics.registry).decode())  # type: ignore[no-untyped-call]


def fault() -> None:
    raise ZeroDivisionError


async def test_a_request_is_seen_whole(collector: SpanCollector) -> None:
    config = toy_config(otlp_endpoint=f"http://127.0.0.1:{collector.port}", trace_ratio=0.0)
    async with serving(config) as toy:
        await toy.stub.Translate(request("not this one"))
        await toy.stub.Translate(request("nor this"), metadata=traceparent(False))
        metadata = (*traceparent(True), ("x-request-id", "mine"))
        await toy.stub.Translate(request("abc", "de", beam_size=2), metadata=metadata)
        exposed = metrics_of(toy)
    spans = {span.name: span for span in collector.spans}  # the server's end sends what was left
    assert sorted(spans) == sorted(["dragoman.v1.TranslationService/Translate", *PHASES])
    assert len(collector.spans) == len(spans)
    call = spans.pop("dragoman.v1.TranslationService/Translate")
    assert call.trace_id.hex() == TRACE
    assert call.parent_span_id.hex() == CALLER
    assert call.kind == Span.SPAN_KIND_SERVER
    attributes = {one.key: one.value for one in call.attributes}
    assert attributes["dragoman.request_id"].string_value == "mine"
    assert attributes["dragoman.model"].string_value == "toy/1"
    assert attributes["rpc.grpc.status_code"].int_value == 0
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (call.trace_id, call.span_id)
        assert call.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= call.end_time_unix_nano
    starts = [spans[name].start_time_unix_nano for name in PHASES]
    assert starts == sorted(starts)
    assert f'trace_id="{TRACE}"' in exposed  # an exemplar leads from the histogram to the trace


async def test_a_request_by_http_is_seen_whole_too(collector: SpanCollector) -> None:
    endpoint = f"http://127.0.0.1:{collector.port}"
    async with serving(toy_config(web="127.0.0.1:0", otlp_endpoint=endpoint, trace_ratio=0.0)) as toy:
        reply = await ask(toy, "POST", "/v1/translate", {"contents": ["abc"]}, dict(traceparent(True)))
        assert reply.status == 200
    (call,) = (span for span in collector.spans if span.name not in PHASES)
    assert {span.name for span in collector.spans} == {call.name, *PHASES}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert call.parent_span_id.hex() == CALLER


async def test_a_failed_request_is_seen_as_one(collector: SpanCollector) -> None:
    config = toy_config(otlp_endpoint=f"http://127.0.0.1:{collector.port}", trace_ratio=1.0)
    async with serving(config) as toy:
        toy.runner.before_step = fault
        await failure(toy.stub.Translate(request("abc")))
        await failure(toy.stub.Translate(request()))
    statuses = [span.status.code for span in collector.spans if "Translate" in span.name]
    assert statuses == [2, 0]  # a caller's mistake is no error of the server


async def test_a_collector_that_is_not_there_holds_nobody_up() -> None:
    async with serving(toy_config(otlp_endpoint="http://127.0.0.1:9", trace_ratio=1.0)) as toy:
        assert (await toy.stub.Translate(request("abc"))).translations


def test_traces_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(StartupError, match=r"dragoman\[otel\]"):
        CallTracer("http://127.0.0.1:1", 0.5)


async def test_without_an_endpoint_nothing_is_noted() -> None:
    async with serving() as toy:
        await toy.stub.Translate(request("abc"), metadata=traceparent(True))
        assert "trace_id" not in metrics_of(toy)


async def test_the_log_of_calls_is_sampled_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(toy_config(max_log_lines=3)) as toy:
        await asyncio.gather(*(toy.stub.Translate(request("abc")) for _ in range(20)))
        toy.runner.before_step = fault
        await failure(toy.stub.Translate(request("de")))
        logged = [str(vars(record)["code"]) for record in caplog.records if record.getMessage() == "call"]
        await eventually(lambda: toy.sample("dragoman_dropped_log_lines_total") == 20 - logged.count("OK"))
        assert 3 <= logged.count("OK") < 20
        assert logged.count("INTERNAL") == 1
