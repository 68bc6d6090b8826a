"""Open-loop arrivals: due times are drawn before the run, so that no answer can hold up a later call.

A shape is a rate over time. Due times follow from it by time rescaling: arrivals of rate 1 (exponential gaps for a
Poisson process, even ones otherwise) are mapped through the inverse of the expected count. Source: Cinlar 1975, ch. 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SLICES = 100_000  # of the run, in each of which the rate counts as constant


@dataclass(frozen=True)
class Shape:
    """Arrivals a second over time.

    Attributes:
        seconds: Duration of the run.
        rate: Arrivals a second at times, both of shape (time,); seconds from the start, never negative.
        poisson: Whether gaps are random; even ones otherwise.
    """

    seconds: float
    rate: Callable[[Floats], Floats]
    poisson: bool = True

    def due_times(self, seed: int) -> Floats:
        """Return due times in seconds from the start, ascending, shape (call,); equal seeds give equal times."""
        edges = np.linspace(0.0, self.seconds, _SLICES + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        expected = np.concatenate([[0.0], np.cumsum(self.rate(middles) * np.diff(edges))])
        return np.interp(self._unit_arrivals(float(expected[-1]), seed), expected, edges)

    def _unit_arrivals(self, count: float, seed: int) -> Floats:
        """Return arrivals of rate 1 before ``count``, shape (call,)."""
        if not self.poisson:
            return np.arange(math.ceil(round(count, 6)), dtype=np.float64)
        generator = np.random.default_rng(seed)
        arrivals = np.cumsum(generator.exponential(size=math.ceil(count + 10 * math.sqrt(count) + 10)))
        return arrivals[arrivals < count]


def constant(rate: float, seconds: float) -> Shape:
    """Return ``rate`` calls a second at even gaps."""
    return Shape(seconds, lambda times: np.full_like(times, rate), poisson=False)


def poisson(rate: float, seconds: float) -> Shape:
    """Return ``rate`` calls a second on average, each independent of the others."""
    return Shape(seconds, lambda times: np.full_like(times, rate))


def step(rates: Sequence[float], seconds: float) -> Shape:
    """Return a Poisson process that takes each rate for the same part of ``seconds``, in order."""
    levels = np.asarray(rates, dtype=np.float64)

    def rate(times: Floats) -> Floats:
        return levels[np.minimum((times / seconds * len(levels)).astype(np.int64), len(levels) - 1)]

    return Shape(seconds, rate)


def spike(rate: float, peak: float, seconds: float, *, start: float, end: float) -> Shape:
    """Return a Poisson process of ``rate``, and of ``peak`` from ``start`` to ``end``, seconds from the beginning."""
    return Shape(seconds, lambda times: np.where((times >= start) & (times < end), peak, rate))


def diurnal(low: float, high: float, seconds: float) -> Shape:
    """Return a Poisson process whose rate is ``low`` at both ends of ``seconds`` and ``high`` in the middle."""
    return Shape(seconds, lambda times: low + (high - low) * (1 - np.cos(2 * np.pi * times / seconds)) / 2)
