"""Capacity of a service by a closed loop, then its latencies by an open loop at shares of that capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from loadtests.service.calls import OK, summary
from loadtests.service.curve import Point, knee, points
from loadtests.service.locust_run import Run, run_locust
from loadtests.service.services import Service

_USERS = 64  # callers without pauses


@dataclass(frozen=True)
class Plan:
    """A measurement of latency against throughput."""

    shares: Sequence[float]  # rates as shares of the capacity, ascending: a backlog falls on no lower rate
    step_seconds: float  # duration of each rate; its first eighth is left out
    capacity_seconds: float  # duration of the closed loop
    options: Mapping[str, object]  # options of the locustfiles


@dataclass(frozen=True)
class Measured:
    """Latency against throughput of a service."""

    capacity: float  # answers a second that callers without pauses got
    curve: list[Point]  # A point for each rate, ascending
    figures: Mapping[str, Any]  # summary of the open loop

    @property
    def knee(self) -> Point:
        """The point of the curve with the greatest power."""
        return knee(self.curve)

    def summary(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {
            "capacity": self.capacity,
            "knee": asdict(self.knee),
            "run": self.figures,
            "points": [asdict(point) for point in self.curve],
        }


def measure(service: Service, out: Path, plan: Plan) -> Measured:
    """Measure a fresh service, which the closed loop warms up; ``out`` is the prefix of the files."""
    capacity_out = out.with_name(f"{out.name}-capacity")
    limit = capacity(service, capacity_out, seconds=plan.capacity_seconds, options=plan.options)
    rates = ",".join(f"{limit * share:.4g}" for share in plan.shares)
    seconds = plan.step_seconds * len(plan.shares)
    arrivals = {"arrivals": "step", "rates": rates, "seconds": seconds}
    run = run_locust("open_loop", service, out, {**plan.options, **arrivals})
    curve = points(run.calls, len(plan.shares), seconds, settle=plan.step_seconds / 8)
    return Measured(limit, curve, run.figures)


def measure_in_turn(services: Mapping[str, Service], out: Path, plan: Plan) -> dict[str, Measured]:
    """Measure services that are compared as :func:`measure` does, each share of all of them before the next share.

    A machine that is slow for a while, as virtual ones are, is then slow for all. Services are idle between turns.
    """
    limits = {
        name: capacity(service, out / f"{name}-capacity", seconds=plan.capacity_seconds, options=plan.options)
        for name, service in services.items()
    }
    runs: dict[str, list[Run]] = {name: [] for name in services}
    for share in plan.shares:
        for name, service in services.items():
            arrivals = {"arrivals": "poisson", "rate": f"{limits[name] * share:.4g}", "seconds": plan.step_seconds}
            prefix = out / f"{name}-{share * 100:.0f}"
            runs[name].append(run_locust("open_loop", service, prefix, {**plan.options, **arrivals}))
    return {name: _joined(limits[name], parts, plan.step_seconds) for name, parts in runs.items()}


def _joined(limit: float, runs: Sequence[Run], seconds: float) -> Measured:
    curve = [point for run in runs for point in points(run.calls, 1, seconds, settle=seconds / 8)]
    calls = [call._replace(due=call.due + number * seconds) for number, run in enumerate(runs) for call in run.calls]
    scheduled = sum(run.figures["calls"] for run in runs)
    cores = {
        who: {"cores": round(fmean(run.figures[who]["cores"] for run in runs), 3)}
        for who in ("generator", "server", "others")
    }
    return Measured(limit, curve, summary(calls, scheduled=scheduled) | cores)


def capacity(service: Service, out: Path, *, seconds: float, options: Mapping[str, object]) -> float:
    """Return the answers a second that callers without pauses get in the last two thirds of ``seconds``.

    Raises:
        RuntimeError: Nothing was answered.
    """
    loop = {"users": _USERS, "spawn-rate": _USERS, "run-time": f"{seconds:g}s"}
    calls = run_locust("closed_loop", service, out, {**options, **loop}).calls
    ends = [call.end for call in calls if call.status == OK]
    begin, end = seconds / 3, max(ends, default=0.0)
    if end <= begin:
        raise RuntimeError(f"the server answered nothing in the last {seconds - begin:g} s; see {out}.log")
    return sum(begin <= moment for moment in ends) / (end - begin)
