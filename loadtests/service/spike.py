"""``make load-spike``: five times the load for ten seconds on a fresh server, and the time it takes to recover."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from loadtests.pictures import plot_spike
from loadtests.service.calls import latencies, milliseconds
from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.locust_run import run_locust
from loadtests.service.measurement import capacity
from loadtests.service.recovery import recovery_seconds
from loadtests.service.services import dragoman

_FACTOR = 5
_BEFORE, _SPIKE, _AFTER = 10.0, 10.0, 30.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a threshold is broken."""
    options = parser("loadtests.service.spike", "Five times the load for ten seconds, and the time to recover.")
    options.add_argument("--share", type=float, default=0.3, help="load before and after, as a share of the capacity")
    asked = options.parse_args(arguments)
    traffic = traffic_options(asked)
    start, end = _BEFORE, _BEFORE + _SPIKE
    with dragoman(asked.models, asked.out / "server.log") as service:
        limit = capacity(service, asked.out / "capacity", seconds=10.0, options=traffic)
        rate = asked.share * limit
        shape = {"arrivals": "spike", "rate": rate, "peak": _FACTOR * rate, "spike-start": start, "spike-end": end}
        run = run_locust("open_loop", service, asked.out / "spike", {**traffic, **shape, "seconds": end + _AFTER})
    recovery = recovery_seconds(run.calls, start, end)
    print(f"recovered {recovery:g} s after the spike" if math.isfinite(recovery) else "did not recover")
    picture = asked.out / "spike.png"
    plot_spike(picture, run.calls, start, end, recovery, f"{_FACTOR} times the load for {_SPIKE:g} s")
    figures = {
        "capacity": limit,
        "rate": rate,
        "peak": _FACTOR * rate,
        "recovery_seconds": recovery,
        "before_ms": milliseconds(latencies(call for call in run.calls if call.due < start)),
        "spike_ms": milliseconds(latencies(call for call in run.calls if start <= call.due < end)),
        "after_ms": milliseconds(latencies(call for call in run.calls if call.due >= end + recovery)),
        "run": run.figures,
    }
    return finish(asked, "Spike", figures, picture)


if __name__ == "__main__":
    sys.exit(main())
