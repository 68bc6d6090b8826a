"""What is counted, under which name; integration tests see to it that it is counted where it happens."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

import pynvml
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.engine.observer import DropReason, Outcome, RejectReason
from serving.messages import FinishReason, QualityFlag
from serving.observability.gpu import GpuCollector
from serving.observability.metrics import Metrics, ModelMetrics

M = {"model": "toy/1"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def model(metrics: Metrics) -> ModelMetrics:
    return ModelMetrics(metrics, "toy/1")


def test_events_become_samples(metrics: Metrics, model: ModelMetrics) -> None:
    model.submitted(3, 30)
    model.rejected(2, RejectReason.QUEUE_FULL)
    model.dropped(DropReason.DEADLINE)
    model.admitted(0.5)
    model.encoded(0.01, sources=3, tokens=30, padding=10)
    model.stepped(0.002, 0.001, slots=3, beam=4)
    model.first_token(0.6)
    model.freed(1)
    model.restarted()
    model.finished(Outcome.OK, FinishReason.EOS, 12)
    model.finished(Outcome.CANCELLED, None, 0)
    model.flagged(QualityFlag.REPETITION)
    expected = {
        ("dragoman_rejections_total", "reason", "queue_full"): 2,
        ("dragoman_dropped_sentences_total", "reason", "deadline"): 1,
        ("dragoman_queue_seconds_sum", "", ""): 0.5,
        ("dragoman_encode_seconds_sum", "", ""): 0.01,
        ("dragoman_batch_rows_sum", "phase", "encode"): 3,
        ("dragoman_batch_rows_sum", "phase", "step"): 12,
        ("dragoman_source_tokens_total", "", ""): 30,
        ("dragoman_padding_tokens_total", "", ""): 10,
        ("dragoman_padding_ratio_sum", "", ""): 0.25,
        ("dragoman_step_seconds_sum", "", ""): 0.002,
        ("dragoman_step_host_seconds_sum", "", ""): 0.001,
        ("dragoman_time_to_first_token_seconds_sum", "", ""): 0.6,
        ("dragoman_cancel_steps_sum", "", ""): 1,
        ("dragoman_engine_restarts_total", "", ""): 1,
        ("dragoman_sentences_total", "outcome", "ok"): 1,
        ("dragoman_sentences_total", "outcome", "cancelled"): 1,
        ("dragoman_finish_reasons_total", "reason", "eos"): 1,
        ("dragoman_quality_flags_total", "flag", "repetition"): 1,
        ("dragoman_target_tokens_total", "", ""): 12,
        ("dragoman_target_length_tokens_sum", "", ""): 12,
    }
    for (name, label, value), amount in expected.items():
        labels = M | ({label: value} if label else {})
        assert metrics.registry.get_sample_value(name, labels) == amount, name


def test_a_models_series_exist_before_anything_happens(metrics: Metrics, model: ModelMetrics) -> None:
    for reason in RejectReason:
        assert metrics.registry.get_sample_value("dragoman_rejections_total", M | {"reason": reason}) == 0
    assert metrics.registry.get_sample_value("dragoman_step_seconds_count", M) == 0


def test_names_follow_the_conventions(metrics: Metrics, model: ModelMetrics) -> None:
    families = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith(("dragoman_", "grpc_server_", "process_")), family.name
        assert family.documentation, family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        closed = {"model", "method", "code", "phase", "reason", "outcome", "device", "flag"}
        assert labels <= closed | {"grpc_type", "grpc_service", "grpc_method", "grpc_code"}, family.name


def test_two_servers_in_one_process_count_apart(metrics: Metrics, model: ModelMetrics) -> None:
    other = Metrics()
    ModelMetrics(other, "toy/1")
    model.finished(Outcome.OK, FinishReason.EOS, 1)
    assert other.registry.get_sample_value("dragoman_target_tokens_total", M) == 0


def raising(code: int) -> Callable[..., NoReturn]:
    def call(*_: object) -> NoReturn:
        raise pynvml.NVMLError(code)

    return call


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: 1000 + index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=1 << 30, used=handle),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=50),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def test_gpu_gauges_are_absent_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", raising(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert not list(GpuCollector().collect())
    assert b"gpu" not in generate_latest(Metrics().registry)


def test_gpu_gauges_are_absent_without_a_gpu(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    assert not list(GpuCollector().collect())


def test_each_gpu_has_its_series(two_gpus: None) -> None:
    families = {family.name: family.samples for family in GpuCollector().collect()}
    assert families.keys() == {
        "dragoman_gpu_memory_used_bytes",
        "dragoman_gpu_memory_total_bytes",
        "dragoman_gpu_utilization_ratio",
    }
    values = {name: [(s.labels["device"], s.value) for s in samples] for name, samples in families.items()}
    assert values["dragoman_gpu_memory_total_bytes"] == [("0", 1 << 30), ("1", 1 << 30)]
    assert values["dragoman_gpu_memory_used_bytes"] == [("0", 1000), ("1", 1001)]
    assert values["dragoman_gpu_utilization_ratio"] == [("0", 0.5), ("1", 0.5)]


def test_what_a_driver_does_not_report_is_absent(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", raising(pynvml.NVML_ERROR_NOT_SUPPORTED))
    names = {family.name for family in GpuCollector().collect()}
    assert names == {"dragoman_gpu_memory_used_bytes", "dragoman_gpu_memory_total_bytes"}
