"""Locust runs of a few seconds against a scripted server: what is sent, when, and what is said of it afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from loadtests.service.arrivals import poisson
from serving.pb import translation_service_pb2 as pb
from tests.integration.locust_process import ROOT, locust
from tests.integration.scripted_server import ScriptedService, fail, running, upper

QUEUE, COMPUTE = 0.25, 0.125


def scripted(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
    """Does what the text says."""
    match request.contents[0]:
        case "refuse":
            return fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        case "retry":
            if "grpc-previous-rpc-attempts" not in dict(context.invocation_metadata()):
                return fail(context, grpc.StatusCode.UNAVAILABLE, "draining", pushback_ms=10)
        case "hang":
            ended = threading.Event()
            if context.add_callback(ended.set):
                ended.wait(30)
    response = upper(request, context)
    response.queue_time.CopyFrom(Duration(nanos=int(QUEUE * 1e9)))
    response.compute_time.CopyFrom(Duration(nanos=int(COMPUTE * 1e9)))
    return response


def asked(service: ScriptedService) -> Counter[str]:
    return Counter(request.contents[0] for request in service.requests)


def sentences(folder: Path, *texts: str) -> Path:
    path = folder / "sentences.txt"
    path.write_text("\n".join(texts) + "\n")
    return path


def test_every_arrival_has_the_outcome_that_the_server_gave_it(tmp_path: Path) -> None:
    texts = sentences(tmp_path, "fine", "refuse", "retry", "hang")
    options = ["--arrivals", "constant", "--rate", 60, "--seconds", 2, "--deadline", 0.5, "--sentences", texts]
    options += ["--beams", "2,3", "--html", tmp_path / "report.html", "--csv", tmp_path / "locust"]
    with running(ScriptedService(answer=scripted)) as service:
        result = locust(tmp_path, "open_loop", service.address, *options)
        count = asked(service)
        assert {request.options.beam_size for request in service.requests} == {2, 3}
    assert result.status == 1, result.output  # calls failed
    retried = count["retry"] // 2
    assert count["retry"] == 2 * retried > 0  # a call that is tried twice is one call
    assert result.figures["outcomes"] == {
        "DEADLINE_EXCEEDED": count["hang"],
        "OK": count["fine"] + retried,
        "RESOURCE_EXHAUSTED": count["refuse"],
    }
    assert result.figures["calls"] == len(result.calls) == 120
    assert {(call.queue, call.compute) for call in result.calls if call.status == "OK"} == {(QUEUE, COMPUTE)}
    assert all(call.latency >= 0.4 for call in result.calls if call.status == "DEADLINE_EXCEEDED")
    assert result.figures["generator"]["cores"] > 0
    assert "Translate" in (tmp_path / "report.html").read_text()
    assert "Translate" in (tmp_path / "locust_stats.csv").read_text()


@pytest.mark.parametrize(
    ("locustfile", "options"),
    [
        ("open_loop", ["--arrivals", "constant", "--rate", 20, "--seconds", 2, "--deadline", 5]),
        ("closed_loop", ["--users", 4, "--spawn-rate", 4, "--run-time", "3s"]),
    ],
)
def test_refused_calls_wait_as_long_as_the_server_asks_for(
    tmp_path: Path, locustfile: str, options: list[object]
) -> None:
    refusals = iter(range(10))

    def limited(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        if next(refusals, None) is not None:
            wait = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=300_000_000))
            return fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls", wait)
        time.sleep(0.01)
        return upper(request, context)

    with running(ScriptedService(answer=limited)) as service:
        result = locust(
            tmp_path, locustfile, service.address, *options, "--retry", "--sentences", sentences(tmp_path, "a")
        )
        in_flight = len(service.requests) - len(result.calls) - 10
    assert 0 <= in_flight <= (4 if locustfile == "closed_loop" else 0)  # users that were stopped while they waited
    assert result.status == 0, result.output
    assert set(result.figures["outcomes"]) == {"OK"}
    assert sum(call.latency > 0.29 for call in result.calls) >= 4


def test_callers_who_go_away_are_no_failures(tmp_path: Path) -> None:
    options = ["--rate", 40, "--seconds", 1, "--abandoned", 1, "--patience", 0.2]
    with running(ScriptedService(answer=scripted)) as service:
        result = locust(tmp_path, "open_loop", service.address, *options, "--sentences", sentences(tmp_path, "hang"))
    assert result.status == 0, result.output
    assert set(result.figures["outcomes"]) == {"ABANDONED"}
    assert result.figures["failed_share"] == 0


@pytest.mark.parametrize(("limit", "status"), [(0, 1), (1000, 0)])
def test_a_broken_threshold_fails_the_run(tmp_path: Path, limit: int, status: int) -> None:
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text(f"latency_ms.p99.9: {{at_most: {limit}}}\nfailed_share: {{at_most: 0}}\n")
    options = ["--rate", 50, "--seconds", 0.5, "--thresholds", thresholds]
    with running(ScriptedService()) as service:
        result = locust(tmp_path, "open_loop", service.address, *options)
    assert result.status == status, result.output
    assert len(result.figures["broken_thresholds"]) == status
    assert ("threshold broken: latency_ms.p99.9 is " in result.output) == (status == 1)


def test_two_workers_send_the_schedule_of_one(tmp_path: Path) -> None:
    options = ["--arrivals", "poisson", "--rate", 60, "--seconds", 3, "--seed", 9]
    with running(ScriptedService(answer=scripted)) as service:
        result = locust(tmp_path, "open_loop", service.address, *options, workers=2)
        assert len(service.requests) == len(result.calls)
    assert result.status == 0, result.output
    assert [call.due for call in result.calls] == pytest.approx(poisson(60, 3).due_times(seed=9).tolist())
    assert result.figures["generator"]["processes"] == 2
    assert result.figures["outcomes"] == {"OK": len(result.calls)}


def test_closed_loop_users_wait_for_their_answers(tmp_path: Path) -> None:
    options = ["--users", 3, "--spawn-rate", 3, "--run-time", "5s", "--sentences", sentences(tmp_path, "fine")]
    with running(ScriptedService(answer=scripted)) as service:
        result = locust(tmp_path, "closed_loop", service.address, *options)
        assert service.most_at_once <= 3
    assert result.status == 0, result.output
    assert set(result.figures["outcomes"]) == {"OK"}
    assert len(result.calls) > 3


def test_latency_counts_from_the_due_time_whenever_the_call_was_sent() -> None:
    program = """
import json, sys, time
from argparse import Namespace
from loadtests.service.open_loop import OpenLoopUser
from loadtests.service.traffic import Traffic
from locust.env import Environment
from random import Random
options = Namespace(deadline=30.0, retry=False)
environment = Environment(user_classes=[OpenLoopUser], host=sys.argv[1], parsed_options=options)
OpenLoopUser.host = sys.argv[1]
environment.events.request.add_listener(lambda context, **_: print(json.dumps(context["call"])))
ask = Traffic(["fine"], [1]).draw(Random(1))
OpenLoopUser(environment).send(ask, start=time.perf_counter() - 5, due=1.0).wait()
time.sleep(0.2)
"""
    with running(ScriptedService()) as service:
        done = subprocess.run(
            [sys.executable, "-c", program, service.address], cwd=ROOT, capture_output=True, text=True, check=True
        )
    due, late, latency, status, *_ = json.loads(done.stdout)
    assert (due, status) == (1.0, "OK")
    assert 4 <= late <= latency
