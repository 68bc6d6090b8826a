"""Times of engines that take turns, and their medians and ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_PAUSE_SECONDS = 0.02  # idle threads of the one before spin for some milliseconds until they sleep

Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of at least two values, interpolated."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def best(times: Times) -> str:
    """Return the name with the smallest median."""
    return min(times, key=lambda name: statistics.median(times[name]))


def ratio(rival: Sequence[float], ours: Sequence[float]) -> Spread:
    """Return the rival's time over ours, by round so that drift of the machine cancels."""
    return spread([theirs / own for theirs, own in zip(rival, ours, strict=True)])


def alternate(engines: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every engine, which returns its seconds, once per round; every other round in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    order = list(engines)
    for number in range(rounds):
        for name in reversed(order) if number % 2 else order:
            time.sleep(_PAUSE_SECONDS)
            times[name].append(engines[name]())
    return times
