"""``make load-spike``: five times the load for ten seconds on a fresh server, and how long it takes to recover."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from loadtests.service.calls import latencies, milliseconds
from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.locust_run import run_locust
from loadtests.service.measurement import capacity
from loadtests.service.plots import plot_spike
from loadtests.service.recovery import recovery_seconds
from loadtests.service.services import dragoman

_FACTOR = 5
_BEFORE, _SPIKE, _AFTER = 10.0, 10.0, 30.0  # seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit status 1 if a threshold is broken."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser("spike", "Five times the load for ten seconds, and how long a server takes to recover.")
    options.add_argument("--share", type=float, default=0.3, help="load before and after, as a share of the capacity")
    asked = options.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    start, end = _BEFORE, _BEFORE + _SPIKE
    with dragoman(asked.models, asked.out / "server.log") as service:
        limit = capacity(service, asked.out / "capacity", seconds=10.0, options=traffic_options(asked))
        rate = asked.share * limit
        shape = {"arrivals": "spike", "rate": rate, "peak": _FACTOR * rate, "spike-start": start, "spike-end": end}
        load = traffic_options(asked) | shape | {"seconds": end + _AFTER}
        run = run_locust("open_loop", service, asked.out / "spike", load)
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
    return finish(asked, arguments, "spike", figures, [picture])


if __name__ == "__main__":
    sys.exit(main())
