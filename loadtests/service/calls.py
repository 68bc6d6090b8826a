"""Outcomes of the calls of a run, and the figures that follow. Every sample is kept: no percentile is estimated."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np

OK = "OK"
ABANDONED = "ABANDONED"  # cancelled because its caller was to go away: no failure of the server
LOST = "LOST"  # due, and never reported: a worker of the load generator died

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Call(NamedTuple):
    """One call, retries included."""

    due: float  # seconds from the start of the run to the moment when it was to begin
    late: float  # seconds from due to sent, the load generator's fault and not the server's
    latency: float  # seconds from due to the end
    status: str  # OK, ABANDONED or the name of the gRPC status
    beam: int  # beam size
    queue: float = 0.0  # seconds, as the server reports them; 0 unless OK, as all that follows
    compute: float = 0.0  # seconds, as the server reports them
    source_tokens: int = 0  # as the server counts them
    target_tokens: int = 0  # as the server counts them
    retry_after: float = 0.0  # seconds to wait, as the server says to those it refuses; 0 if it does not

    @property
    def end(self) -> float:
        """The time of its end, seconds from the start of the run."""
        return self.due + self.latency


def write_calls(path: Path, calls: Iterable[Call]) -> None:
    """Write a CSV file with a row for each call, by due time."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Call._fields)
        writer.writerows(sorted(calls))


def read_calls(path: Path) -> list[Call]:
    """Read a file of :func:`write_calls`."""
    kinds = [get_type_hints(Call)[name] for name in Call._fields]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        return [Call(*(kind(cell) for kind, cell in zip(kinds, row, strict=True))) for row in rows]


def latencies(calls: Iterable[Call]) -> list[float]:
    """Return seconds from due to answer; infinite for failed calls, so that failing fast does not look fast."""
    return [call.latency if call.status == OK else math.inf for call in calls if call.status != ABANDONED]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that at least ``percent`` % of them do not exceed; NaN if there is none."""
    # 99.9 / 100 is a little more than 0.999 in floating point, and would round up to the next value.
    return float(np.quantile(values, round(percent / 100, 6), method="inverted_cdf")) if values else math.nan


def milliseconds(values: Sequence[float]) -> dict[str, float | None]:
    """Return percentiles, mean and maximum of seconds, in milliseconds; None for infinite and undefined ones."""
    figures = {f"p{percent:g}": percentile(values, percent) for percent in PERCENTILES}
    figures |= {"mean": float(np.mean(values)) if values else math.nan, "max": max(values, default=math.nan)}
    return {name: round(value * 1e3, 3) if math.isfinite(value) else None for name, value in figures.items()}


def summary(calls: Sequence[Call], *, scheduled: int | None = None) -> dict[str, Any]:
    """Return the figures of a run; of ``scheduled`` calls of an open loop, missing ones count as failed."""
    outcomes = Counter(call.status for call in calls)
    if scheduled is not None and scheduled > len(calls):
        outcomes[LOST] = scheduled - len(calls)
    answered = [call for call in calls if call.status == OK]
    seconds = max((call.end for call in calls), default=0.0)
    wanted = outcomes.total() - outcomes[ABANDONED]
    return {
        "calls": outcomes.total(),
        "outcomes": dict(sorted(outcomes.items())),
        "failed_share": (wanted - outcomes[OK]) / wanted if wanted else 0.0,
        "seconds": round(seconds, 3),
        "sentences_per_second": round(len(answered) / seconds, 3) if seconds else 0.0,
        "target_tokens_per_second": round(sum(call.target_tokens for call in answered) / seconds, 1) if seconds else 0,
        "latency_ms": milliseconds(latencies(calls)),
        "queue_ms": milliseconds([call.queue for call in answered]),
        "compute_ms": milliseconds([call.compute for call in answered]),
        "late_ms": milliseconds([call.late for call in calls]),
    }
