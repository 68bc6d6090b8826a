"""Pictures of results, drawn with Matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.service.calls import OK, Call, latencies, percentile
from loadtests.service.curve import Point

_REPLICAS = ("rolling_restart_client", "rolling_restart_haproxy", "sudden_death_client", "sudden_death_haproxy")

Rows = Sequence[Mapping[str, Any]]


@contextmanager
def _figure(path: Path, title: str, width: float = 8.0, height: float = 4.8) -> Iterator[Figure]:
    """Save a figure after it has been drawn; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title)
    yield figure
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None})


@contextmanager
def _curve_axes(path: Path, title: str) -> Iterator[Axes]:
    with _figure(path, title) as figure:
        axes = figure.subplots()
        yield axes
        axes.set(xlabel="sentences answered a second", ylabel="latency from due time, ms", yscale="log")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3, which="both")
        axes.legend()


def plot_curve(path: Path, curve: Sequence[Point], knee: Point, title: str) -> None:
    """Draw latency against throughput of one service, with its knee."""
    answered = [point.answered for point in curve]
    with _curve_axes(path, title) as axes:
        axes.plot(answered, _ms([point.p99 for point in curve]), marker="o", markersize=4, lw=2.0, label="99 %")
        axes.plot(answered, _ms([point.p90 for point in curve]), marker="o", markersize=4, lw=1.2, label="90 %")
        axes.plot(answered, _ms([point.p50 for point in curve]), marker="o", markersize=4, lw=1.2, label="median")
        axes.axvline(knee.answered, color="black", ls="--", lw=1, label=f"knee: {knee.answered:.0f}/s")


def plot_services(path: Path, curves: Mapping[str, Sequence[Point]], limits: Sequence[float], title: str) -> None:
    """Draw latency against throughput of several services, and the latencies in seconds at which they are compared."""
    with _curve_axes(path, title) as axes:
        for number, (name, curve) in enumerate(curves.items()):
            answered = [point.answered for point in curve]
            axes.plot(answered, _ms([p.p99 for p in curve]), f"oC{number}-", label=f"{name}, 99 %")
            axes.plot(answered, _ms([p.p50 for p in curve]), f".C{number}:", label=f"{name}, median")
        for limit in limits:
            axes.axhline(limit * 1e3, color="black", ls="--", lw=0.7)


def plot_spike(path: Path, calls: Sequence[Call], start: float, end: float, recovery: float, title: str) -> None:
    """Draw arrivals, answers and latency in each second around a spike."""
    seconds = range(math.ceil(max(call.end for call in calls)))
    due = [[call for call in calls if second <= call.due < second + 1] for second in seconds]
    ended = [sum(c.status == OK and second <= c.end < second + 1 for c in calls) for second in seconds]
    with _figure(path, title) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.step(seconds, [len(calls) for calls in due], where="post", label="due")
        upper.step(seconds, ended, where="post", label="answered")
        upper.set_ylabel("calls a second")
        lower.plot(seconds, _ms([percentile(latencies(calls), 90) for calls in due]), label="90 %")
        lower.plot(seconds, _ms([percentile(latencies(calls), 50) for calls in due]), label="median")
        lower.set(yscale="log", ylabel="latency from due time, ms", xlabel="seconds")
        for axes in (upper, lower):
            axes.axvspan(start, end, color="tab:red", alpha=0.1)
            if math.isfinite(recovery):
                axes.axvline(end + recovery, color="black", ls="--", lw=1, label=f"recovered after {recovery:g} s")
            axes.grid(alpha=0.3)
            axes.legend()


def plot_overhead(path: Path, idle: Sequence[float], lost: Mapping[str, Sequence[float]]) -> None:
    """Draw the overhead of lone calls, in seconds, and the share of throughput that each of several things costs."""
    with _figure(path, "", width=10.0, height=4.0) as figure:
        calls, costs = figure.subplots(1, 2)
        calls.plot(_ms(sorted(idle)), [(number + 1) / len(idle) for number in range(len(idle))])
        calls.set(title="Overhead of one call", xlabel="milliseconds", xscale="log", ylabel="share of calls up to it")
        for number, shares in enumerate(lost.values()):
            costs.plot([number] * len(shares), [100 * share for share in shares], "o", alpha=0.4)
            costs.plot(number, 100 * median(shares), "_k", markersize=24)
        costs.axhline(0.0, color="black", lw=1)
        costs.set(title="Cost, by rounds, and the median", ylabel="% of the throughput", xlim=(-0.5, len(lost) - 0.5))
        costs.set_xticks(range(len(lost)), list(lost))
        for axes in (calls, costs):
            axes.grid(alpha=0.3)


def plot_ratios(path: Path, rows: Rows, title: str) -> None:
    """Draw each ratio of an offline comparison with its quartiles; a bar to the right of the line is faster."""
    labels = [
        f"{row['model']}, {row['sentences']}, batch {row['batch']}, beam {row['beam']}, {row['rival'].split('/')[0]}"
        for row in rows
    ]
    cases, precisions = list(dict.fromkeys(labels)), list(dict.fromkeys(row["precision"] for row in rows))
    height = 0.8 / len(precisions)
    with _figure(path, title, height=1.5 + 0.35 * len(cases)) as figure:
        axes = figure.subplots()
        for number, precision in enumerate(precisions):
            chosen = [(label, row) for label, row in zip(labels, rows, strict=True) if row["precision"] == precision]
            places = [cases.index(label) + (number - (len(precisions) - 1) / 2) * height for label, _ in chosen]
            spreads = [[abs(row["ratio"] - row["ratio_quartiles"][side]) for _, row in chosen] for side in (0, 1)]
            axes.barh(places, [row["ratio"] for _, row in chosen], height, xerr=spreads, label=precision)
        axes.axvline(1.0, color="black", lw=1)
        axes.set_yticks(range(len(cases)), cases)
        axes.invert_yaxis()
        axes.set_xlabel("the rival's time / ours")
        axes.grid(axis="x", alpha=0.3)
        axes.legend()


def plot_costs(path: Path, batches: Rows, lone: Rows, title: str) -> None:
    """Draw the time of a target token by batch size, and the time of a lone sentence by its length."""
    with _figure(path, title, width=10.0) as figure:
        tokens, sentences = figure.subplots(1, 2)
        for axes, rows, x, y in (
            (tokens, batches, "batch", "milliseconds_per_token"),
            (sentences, lone, "tokens", "milliseconds"),
        ):
            for precision, beam in dict.fromkeys((row["precision"], row["beam"]) for row in rows):
                own = [row for row in rows if (row["precision"], row["beam"]) == (precision, beam)]
                axes.plot([r[x] for r in own], [r[y] for r in own], marker="o", label=f"{precision}, beam {beam}")
            axes.grid(alpha=0.3)
        sizes = sorted({row["batch"] for row in batches})
        tokens.set(xlabel="sentences of a batch", ylabel="ms per target token", xscale="log", yscale="log")
        tokens.set_xticks(sizes, [str(size) for size in sizes])
        sentences.set(xlabel="source and target tokens", ylabel="ms per sentence", xlim=(0, None), ylim=(0, None))
        figure.legend(*tokens.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def plot_replicas(path: Path, figures: Mapping[str, Any]) -> None:
    """Draw throughput of one and two replicas, and latency under restarts and kills."""
    core = figures["second_core"]
    pairs = range(1, len(core["ratios"]) + 1)
    parts = [(name.replace("_", " "), figures[name]) for name in _REPLICAS]
    labels = [f"{name}\n{part['failed']} of {part['calls']} failed" for name, part in parts]
    with _figure(path, "", width=10.0, height=4.0) as figure:
        throughput, latency = figure.subplots(1, 2)
        throughput.plot(pairs, core["one_replica_sentences_per_second"], "o-", label="one replica, one core")
        throughput.plot(pairs, core["two_replicas_sentences_per_second"], "s-", label="two replicas, a core each")
        throughput.set(
            title=f"A second core: {core['median_ratio']:.2f} times as much (median)",
            xlabel="pair of runs", ylabel="sentences a second, beam 4", xticks=list(pairs),
        )  # fmt: skip
        throughput.set_ylim(bottom=0)
        throughput.legend()
        for name, colour in (("max", "0.85"), ("p99", "0.6"), ("p50", "C0")):
            latency.barh(labels, [part["latency_ms"][name] for _, part in parts], color=colour, label=name)
        latency.set(title="Latency of calls, retries included", xlabel="milliseconds", xscale="log")
        latency.legend()


def _ms(seconds: Sequence[float]) -> list[float]:
    """Convert to milliseconds; infinite values leave a gap."""
    return [value * 1e3 if math.isfinite(value) else math.nan for value in seconds]
