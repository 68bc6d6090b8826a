"""The figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_LOAD = ("rolling_restart_client", "rolling_restart_haproxy", "sudden_death_client", "sudden_death_haproxy")


def draw(figures: dict[str, Any], path: Path) -> None:
    """Writes throughput of one and two replicas, and latency under restarts and deaths, as PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    core = figures["second_core"]
    pairs = range(1, len(core["ratios"]) + 1)
    throughput.plot(pairs, core["one_replica_sentences_per_second"], "o-", label="one replica, one core")
    throughput.plot(pairs, core["two_replicas_sentences_per_second"], "s-", label="two replicas, a core each")
    throughput.set(
        title=f"A second core: {core['median_ratio']:.2f} times as much (median)",
        xlabel="pair of runs",
        ylabel="sentences a second, beam 4",
        xticks=list(pairs),
    )
    throughput.set_ylim(bottom=0)
    throughput.legend()
    parts = [(name.replace("_", " "), figures[name]) for name in _LOAD]
    labels = [f"{name}\n{part['failed']} of {part['calls']} failed" for name, part in parts]
    for percentile, colour in (("max", "0.85"), ("p99", "0.6"), ("p50", "C0")):
        values = [part["latency_ms"][percentile] for _, part in parts]
        latency.barh(labels, values, color=colour, label=percentile)
    latency.set(title="Latency of calls, retries included", xlabel="milliseconds", xscale="log")
    latency.legend()
    figure.savefig(path, metadata={"Date": None})
