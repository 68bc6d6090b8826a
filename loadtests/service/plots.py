"""Pictures of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.service.calls import OK, Call, latencies, percentile
from loadtests.service.curve import Point

_SIZE = (8.0, 4.8)  # inches
_DPI = 110


def plot_curve(path: Path, curve: Sequence[Point], knee: Point, title: str) -> None:
    """Latency against throughput of one service, with its knee."""
    figure, axes = _curve_axes(title)
    for label, width, values in (
        ("99 %", 2.0, [point.p99 for point in curve]),
        ("90 %", 1.2, [point.p90 for point in curve]),
        ("median", 1.2, [point.p50 for point in curve]),
    ):
        axes.plot([point.answered for point in curve], _ms(values), marker="o", markersize=4, lw=width, label=label)
    axes.axvline(knee.answered, color="black", ls="--", lw=1, label=f"knee: {knee.answered:.0f}/s")
    _save_curve(figure, axes, path)


def plot_services(path: Path, curves: Mapping[str, Sequence[Point]], limits: Sequence[float], title: str) -> None:
    """Latency against throughput of several services, and limits in seconds at which they are compared."""
    figure, axes = _curve_axes(title)
    for (name, curve), color in zip(curves.items(), ("tab:blue", "tab:orange", "tab:green"), strict=False):
        answered = [point.answered for point in curve]
        axes.plot(answered, _ms([p.p99 for p in curve]), marker="o", color=color, label=f"{name}, 99 %")
        axes.plot(answered, _ms([p.p50 for p in curve]), marker=".", color=color, ls=":", label=f"{name}, median")
    for limit in limits:
        axes.axhline(limit * 1e3, color="black", ls="--", lw=0.7)
    _save_curve(figure, axes, path)


def plot_spike(path: Path, calls: Sequence[Call], start: float, end: float, recovery: float, title: str) -> None:
    """Arrivals, answers and latency of each second around a spike."""
    seconds = range(math.ceil(max(call.end for call in calls)))
    due = [[call for call in calls if second <= call.due < second + 1] for second in seconds]
    figure = Figure(figsize=_SIZE, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(title)
    upper.step(seconds, [len(calls) for calls in due], where="post", label="due")
    ended = [sum(c.status == OK and second <= c.end < second + 1 for c in calls) for second in seconds]
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
    figure.savefig(path, dpi=_DPI)


def _curve_axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel="sentences answered a second", ylabel="latency from due time, ms", yscale="log")
    axes.grid(alpha=0.3, which="both")
    return figure, axes


def _save_curve(figure: Figure, axes: Axes, path: Path) -> None:
    axes.set_xlim(left=0)
    axes.legend()
    figure.savefig(path, dpi=_DPI)


def _ms(seconds: Sequence[float]) -> list[float]:
    """Milliseconds; infinite values leave a gap."""
    return [value * 1e3 if math.isfinite(value) else math.nan for value in seconds]
