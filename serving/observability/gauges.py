"""Gauges read at each scrape: the state of the engines, the phase of the server, the versions that run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.engine.observer import EngineSnapshot
from serving.runtime.session import PROVIDERS
from serving.runtime.session import VERSION as ONNX_RUNTIME_VERSION

_OF_ENGINES: tuple[tuple[str, str, Callable[[EngineSnapshot], float]], ...] = (
    ("dragoman_queue_depth", "Sentences waiting for a slot.", lambda s: s.queue_depth),
    ("dragoman_queue_tokens", "Source tokens waiting for a slot.", lambda s: s.queue_tokens),
    ("dragoman_queue_oldest_age_seconds", "Age of the oldest queued sentence.", lambda s: s.oldest_age_seconds),
    ("dragoman_running_slots", "Sentences being decoded.", lambda s: s.running_slots),
    ("dragoman_running_rows", "Hypotheses being decoded.", lambda s: s.running_rows),
    ("dragoman_running_tokens", "Tokens of the running budget in use.", lambda s: s.running_tokens),
    ("dragoman_lanes", "Allocated decoding grids, one per beam size and worker.", lambda s: s.lanes),
    ("dragoman_kv_bytes", "Bytes allocated for encoder memory and decoder state.", lambda s: s.state_bytes),
    ("dragoman_worker_resident_bytes", "Main memory of the workers' own processes.", lambda s: s.worker_bytes),
)


@dataclass(frozen=True)
class ServerState:
    """The server at one moment.

    Attributes:
        calls_in_flight: Calls being answered.
        is_serving: Whether new calls are accepted.
        is_draining: Whether only the calls in flight are finished.
        devices: Devices that the loaded models run on: ``cpu``, ``cuda``.
        engines: State of each loaded model's engine, by the model's label.
    """

    calls_in_flight: int
    is_serving: bool
    is_draining: bool
    devices: frozenset[str]
    engines: Mapping[str, EngineSnapshot]


class ServerCollector(Collector):
    """Collector of the server's gauges."""

    def __init__(self, state: Callable[[], ServerState]) -> None:
        """Collect what ``state`` returns at each scrape."""
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Yield every family, with one series per model."""
        state = self._state()
        calls = GaugeMetricFamily("dragoman_calls_in_flight", "Calls being answered.")
        calls.add_metric([], state.calls_in_flight)
        yield calls
        yield _build_info(state.devices)
        for name, help_, read in _OF_ENGINES:
            family = GaugeMetricFamily(name, help_, labels=["model"])
            for label, snapshot in state.engines.items():
                family.add_metric([label], read(snapshot))
            yield family
        yield from _phases(state)


def _phases(state: ServerState) -> Iterator[Metric]:
    loaded = GaugeMetricFamily("dragoman_model_loaded", "1 if the model is loaded.", labels=["model"])
    ready = GaugeMetricFamily("dragoman_model_ready", "1 if the model accepts new requests.", labels=["model"])
    draining = GaugeMetricFamily(
        "dragoman_model_draining", "1 if the model only finishes accepted requests.", labels=["model"]
    )
    for label, snapshot in state.engines.items():
        is_draining = snapshot.draining or state.is_draining
        loaded.add_metric([label], 1)
        ready.add_metric([label], snapshot.healthy and state.is_serving and not is_draining)
        draining.add_metric([label], is_draining)
    yield from (loaded, ready, draining)


def _build_info(devices: Iterable[str]) -> Metric:
    labels = ["version", "onnxruntime", "execution_provider"]
    info = GaugeMetricFamily("dragoman_build_info", "Versions and execution providers in use.", labels=labels)
    for device in sorted(devices):
        info.add_metric([_own_version(), ONNX_RUNTIME_VERSION, PROVIDERS.get(device, device)], 1)
    return info


def _own_version() -> str:
    try:
        return version("dragoman")
    except PackageNotFoundError:
        return "absent"
