"""GPU gauges from NVML, the driver's own library; without a GPU there are none."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SUCCESS = 0


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """The few calls of ``libnvidia-ml`` that the gauges need."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Takes a library that is initialised already."""
        self._library = library

    @classmethod
    def open(cls) -> Nvml | None:
        """Opens the driver's library; None where there is no driver."""
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        return cls(library) if library.nvmlInit_v2() == _SUCCESS else None

    def devices(self) -> Iterator[tuple[int, ctypes.c_void_p]]:
        """Index and handle of each GPU."""
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS:
            return
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == _SUCCESS:
                yield index, handle

    def memory(self, handle: ctypes.c_void_p) -> tuple[int, int] | None:
        """Bytes in use and in all, or None where the driver does not tell."""
        memory = _Memory()
        if self._library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != _SUCCESS:
            return None
        return memory.used, memory.total

    def utilization(self, handle: ctypes.c_void_p) -> float | None:
        """Share of the last sample period in which a kernel ran, or None where the driver does not tell."""
        rates = _Utilization()
        if self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)) != _SUCCESS:
            return None
        return float(rates.gpu) / 100


class GpuCollector(Collector):
    """Reads the GPUs when Prometheus asks."""

    def __init__(self, nvml: Nvml | None = None) -> None:
        """Opens NVML unless it is given."""
        self._nvml = nvml or Nvml.open()

    def collect(self) -> Iterable[Metric]:
        """One family for each gauge that at least one GPU tells."""
        if self._nvml is None:
            return
        used = GaugeMetricFamily("dragoman_gpu_memory_used_bytes", "GPU memory in use, by anyone.", labels=["device"])
        total = GaugeMetricFamily("dragoman_gpu_memory_total_bytes", "GPU memory there is.", labels=["device"])
        busy = GaugeMetricFamily("dragoman_gpu_utilization_ratio", "Share of time a kernel ran.", labels=["device"])
        for index, handle in self._nvml.devices():
            if (memory := self._nvml.memory(handle)) is not None:
                used.add_metric([str(index)], memory[0])
                total.add_metric([str(index)], memory[1])
            if (utilization := self._nvml.utilization(handle)) is not None:
                busy.add_metric([str(index)], utilization)
        yield from (family for family in (used, total, busy) if family.samples)
