"""Arrivals, percentiles, and what becomes of calls."""

import itertools
import json
from collections import Counter
from pathlib import Path

import grpc
import pytest

from loadtests.open_loop import Report, arrivals, main, percentile
from serving.pb import translation_service_pb2 as pb
from tests.integration.scripted_server import ScriptedService, fail, running, upper


def test_arrivals_are_a_reproducible_poisson_process() -> None:
    calls = list(arrivals(["a", "b"], [1, 4], rate=100, seconds=100, seed=3))
    assert calls == list(arrivals(["a", "b"], [1, 4], rate=100, seconds=100, seed=3))
    assert len(calls) == pytest.approx(10_000, rel=0.05)
    gaps = [later.due - sooner.due for sooner, later in itertools.pairwise(calls)]
    assert min(gaps) >= 0
    # Gaps of a Poisson process are exponential: a share of 1/e is longer than their mean.
    assert sum(gap > 0.01 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)
    assert {(call.text, call.beam) for call in calls} == {("a", 1), ("a", 4), ("b", 1), ("b", 4)}


def test_percentiles_are_values_that_occurred() -> None:
    ranked = [float(number) for number in range(1, 101)]
    assert [percentile(ranked, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 1) == 7.0


def test_a_report_without_successes_has_no_latency() -> None:
    summary = Report(outcomes=Counter(UNAVAILABLE=3), seconds=2.0).summary()
    assert summary["calls"] == 3
    assert summary["latency_ms"] == {"p50": None, "p90": None, "p95": None, "p99": None, "p100": None}


def test_every_call_has_one_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        if request.contents[0] == "bad":
            return fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return upper(request, context)

    sentences = tmp_path / "sentences.txt"
    sentences.write_text("good\n\nbad\n")
    with running(ScriptedService(answer=answer)) as service:
        options = ["--server", service.address, "--sentences", str(sentences), "--rate", "200", "--seconds", "0.5"]
        assert main(options) == 1
        summary = json.loads(capsys.readouterr().out)
        bad = sum(request.contents[0] == "bad" for request in service.requests)
        assert summary["outcomes"] == {"OK": len(service.requests) - bad, "RESOURCE_EXHAUSTED": bad}
        assert summary["calls"] == len(service.requests)
        sentences.write_text("good\n")
        assert main(options) == 0
