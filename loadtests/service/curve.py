"""Latency against throughput: the points of a run whose rate rises in steps, the knee, the throughput at a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.service.calls import ABANDONED, OK, Call, latencies, percentile


@dataclass(frozen=True)
class Point:
    """One step of a run. Latencies are in seconds from the due time; infinite where that many calls failed."""

    offered: float  # calls due a second
    answered: float  # calls answered a second, whenever they were due
    calls: int  # calls due in the step
    failed: int  # those of them that failed
    mean: float  # mean latency
    p50: float  # latency that half of the calls did not exceed; and so on
    p90: float
    p99: float
    p999: float

    @property
    def power(self) -> float:
        """Throughput divided by mean latency."""
        return self.answered / self.mean if self.calls else 0.0


def points(calls: Sequence[Call], steps: int, seconds: float, *, settle: float) -> list[Point]:
    """Return the points of a run of ``steps`` steps over ``seconds``, each without its first ``settle`` seconds."""
    width = seconds / steps
    return [_point(calls, step * width + settle, (step + 1) * width) for step in range(steps)]


def _point(calls: Sequence[Call], start: float, end: float) -> Point:
    due = [call for call in calls if start <= call.due < end]
    answered = sum(call.status == OK and start <= call.end < end for call in calls)
    values = latencies(due)
    return Point(
        offered=len(due) / (end - start),
        answered=answered / (end - start),
        calls=len(due),
        failed=sum(call.status not in (OK, ABANDONED) for call in due),
        mean=float(np.mean(values)) if values else math.nan,
        p50=percentile(values, 50),
        p90=percentile(values, 90),
        p99=percentile(values, 99),
        p999=percentile(values, 99.9),
    )


def knee(curve: Sequence[Point]) -> Point:
    """Return the point with the greatest power, after which latency grows faster than throughput.

    Source: Kleinrock 1979, "Power and deterministic rules of thumb for probabilistic problems in computer
    communications". Unlike a distance from the chord, it does not depend on how far the curve goes.

    Raises:
        ValueError: There is no point with a call.
    """
    return max((point for point in curve if point.calls), key=lambda point: point.power)


def sustained(curve: Sequence[Point], limit: float) -> float:
    """Return the answers a second at which the 99th percentile of the latency reaches ``limit`` seconds.

    Between two points it is interpolated, over the logarithm of the latency. It is 0 if already the first point is over
    the limit, and the last point's throughput, a lower bound, if none is.
    """
    below: Point | None = None
    for point in curve:
        if not point.p99 <= limit:
            if below is None or not math.isfinite(point.p99) or point.answered <= below.answered:
                break
            share = math.log(limit / below.p99) / math.log(point.p99 / below.p99)
            return below.answered + share * (point.answered - below.answered)
        below = point
    return below.answered if below else 0.0
