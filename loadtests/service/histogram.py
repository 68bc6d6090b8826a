"""Histograms of a server's metrics: what was observed between two looks at them."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT = 30.0  # seconds

Buckets = Mapping[float, float]  # observations up to each bound, which is among them; the last bound is infinite


def read_buckets(http: str, name: str) -> Buckets:
    """Read a histogram without labels at ``http``, the HOST:PORT of metrics.

    Raises:
        ValueError: The server has no such histogram.
        OSError: The server does not answer.
    """
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=_TIMEOUT) as response:
        text = response.read().decode("utf-8")
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    buckets = {float(s.labels["le"]): s.value for s in families.get(name, ()) if s.name == f"{name}_bucket"}
    if not buckets:
        raise ValueError(f"the metrics at {http} have no histogram {name}")
    return buckets


def between(before: Buckets, after: Buckets) -> Buckets:
    """Return what was observed after one look and before another."""
    return {bound: count - before[bound] for bound, count in after.items()}


def quantile(buckets: Buckets, share: float) -> float:
    """Return the bound that ``share`` of the observations do not exceed, as Prometheus' ``histogram_quantile`` does.

    Within a bucket observations count as evenly spread. Infinite beyond the last finite bound, NaN if there are none.
    """
    bounds = sorted(buckets)
    wanted = share * buckets[bounds[-1]]
    if not wanted:
        return math.nan
    lower, below = 0.0, 0.0
    for bound in bounds:
        if (count := buckets[bound]) >= wanted:
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return math.nan
