"""GPU gauges from NVML, the driver's own library; absent, not zero, without a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pynvml
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class GpuCollector(Collector):
    """Collector of the memory and utilization of every GPU of this machine."""

    def __init__(self) -> None:
        """Open NVML, if there is a driver."""
        self._handles = _open()

    def collect(self) -> Iterable[Metric]:
        """Yield each family that at least one GPU reports."""
        used = GaugeMetricFamily(
            "dragoman_gpu_memory_used_bytes", "GPU memory in use, by any process.", labels=["device"]
        )
        total = GaugeMetricFamily("dragoman_gpu_memory_total_bytes", "Total GPU memory.", labels=["device"])
        busy = GaugeMetricFamily(
            "dragoman_gpu_utilization_ratio", "Fraction of time in which a kernel ran.", labels=["device"]
        )
        for device, handle in self._handles.items():
            with suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                used.add_metric([device], memory.used)
                total.add_metric([device], memory.total)
            with suppress(pynvml.NVMLError):
                busy.add_metric([device], pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        yield from (family for family in (used, total, busy) if family.samples)


def _open() -> dict[str, Any]:
    """Return the NVML handle of each GPU by its index; none without a driver."""
    handles = {}
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):
                handles[str(index)] = pynvml.nvmlDeviceGetHandleByIndex(index)
    return handles
