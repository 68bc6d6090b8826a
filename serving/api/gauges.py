"""Gauges that are read when Prometheus asks: the engines' state, the server's phase, what runs where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.api.admission import Admission, Phase
from serving.api.models import ModelRegistry
from serving.engine.observer import EngineSnapshot
from serving.runtime.session import PROVIDERS
from serving.runtime.session import VERSION as ONNX_RUNTIME_VERSION

_OF_ENGINES: tuple[tuple[str, str, Callable[[EngineSnapshot], float]], ...] = (
    ("dragoman_queue_depth", "Sentences waiting for a slot.", lambda s: s.queue_depth),
    ("dragoman_queue_tokens", "Source tokens waiting.", lambda s: s.queue_tokens),
    ("dragoman_queue_oldest_age_seconds", "Wait of the first in the queue.", lambda s: s.oldest_age_seconds),
    ("dragoman_running_slots", "Sentences in slots.", lambda s: s.running_slots),
    ("dragoman_running_rows", "Hypotheses in slots.", lambda s: s.running_rows),
    ("dragoman_running_tokens", "Tokens of the running budget in use.", lambda s: s.running_tokens),
    ("dragoman_lanes", "Grids that exist, one for each beam size in use.", lambda s: s.lanes),
    ("dragoman_kv_bytes", "Bytes held for memory and state of sentences.", lambda s: s.state_bytes),
)


class ServerCollector(Collector):
    """Reads the server's state."""

    def __init__(self, models: ModelRegistry, admission: Admission) -> None:
        """Reads these, whatever they hold by then."""
        self._models = models
        self._admission = admission

    def collect(self) -> Iterable[Metric]:
        """All families; one series for each model."""
        calls = GaugeMetricFamily("dragoman_calls_in_flight", "Calls that are being answered.")
        calls.add_metric([], self._admission.in_flight)
        yield calls
        yield self._build_info()
        snapshots = {model.label: model.snapshot() for model in self._models.models()}
        for name, help_, read in _OF_ENGINES:
            family = GaugeMetricFamily(name, help_, labels=["model"])
            for label, snapshot in snapshots.items():
                family.add_metric([label], read(snapshot))
            yield family
        yield from self._phases(snapshots)

    def _phases(self, snapshots: dict[str, EngineSnapshot]) -> Iterator[Metric]:
        loaded = GaugeMetricFamily("dragoman_model_loaded", "1: the model is in memory.", labels=["model"])
        ready = GaugeMetricFamily("dragoman_model_ready", "1: it takes new requests.", labels=["model"])
        draining = GaugeMetricFamily("dragoman_model_draining", "1: it only finishes requests.", labels=["model"])
        phase = self._admission.phase
        for label, snapshot in snapshots.items():
            is_draining = snapshot.draining or phase is Phase.DRAINING
            loaded.add_metric([label], 1)
            ready.add_metric([label], snapshot.healthy and phase is Phase.SERVING and not is_draining)
            draining.add_metric([label], is_draining)
        yield from (loaded, ready, draining)

    def _build_info(self) -> Metric:
        labels = ["version", "onnxruntime", "execution_provider"]
        info = GaugeMetricFamily("dragoman_build_info", "What really runs.", labels=labels)
        for device in sorted({model.device for model in self._models.models()}):
            info.add_metric([_own_version(), ONNX_RUNTIME_VERSION, PROVIDERS.get(device, device)], 1)
        return info


def _own_version() -> str:
    try:
        return version("dragoman")
    except PackageNotFoundError:
        return "absent"
