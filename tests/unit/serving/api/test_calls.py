import asyncio
import logging

import pytest

from serving.api.admission import Admission, Phase
from serving.api.calls import Calls
from serving.errors import NotFound, Unavailable
from serving.observability.call import Call, current_call
from serving.observability.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def calls(metrics: Metrics) -> Calls:
    admission = Admission(max_calls=1)
    admission.phase = Phase.SERVING
    return Calls(admission, metrics.calls)


@pytest.mark.parametrize("service", ["", "a.Service"])
def test_only_calls_of_grpc_count_under_its_customary_names(calls: Calls, metrics: Metrics, service: str) -> None:
    call = Call("id", "Do", service)
    with calls.observed(call, lambda: False):
        assert current_call.get() is call
    labels = {"grpc_type": "unary", "grpc_service": service, "grpc_method": "Do", "grpc_code": "OK"}
    sample = metrics.registry.get_sample_value
    assert sample("grpc_server_handled_total", labels) == (1 if service else None)
    assert sample("dragoman_requests_total", {"model": "", "method": "Do", "code": "OK"}) == 1


@pytest.mark.parametrize(
    ("error", "late", "code", "logged"),
    [
        (NotFound("none"), False, "NOT_FOUND", ["call"]),
        (ZeroDivisionError(), False, "INTERNAL", ["internal_error", "call"]),
        (asyncio.CancelledError(), False, "CANCELLED", ["call"]),
        (asyncio.CancelledError(), True, "DEADLINE_EXCEEDED", ["call"]),
    ],
)
def test_what_a_call_raises_is_its_outcome(
    calls: Calls, caplog: pytest.LogCaptureFixture, error: BaseException, late: bool, code: str, logged: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(type(error)), calls.observed(Call("id", "Do"), lambda: late):
        raise error
    assert [record.getMessage() for record in caplog.records] == logged
    assert vars(caplog.records[-1])["code"] == code


def test_a_refusal_is_counted(metrics: Metrics) -> None:
    loading = Calls(Admission(max_calls=1), metrics.calls)
    with pytest.raises(Unavailable), loading.admitted(Call("id", "Do"), "10.0.0.1", None):
        pytest.fail("the server is loading")
    labels = {"method": "Do", "reason": "loading"}
    assert metrics.registry.get_sample_value("dragoman_refused_calls_total", labels) == 1
