"""``make load-overload``: three times what a fresh server can do, open loop, with deadlines, and what gets through.

Goodput is answers within the deadline a second; the best is what callers without pauses get.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from loadtests.pictures import plot_spike
from loadtests.service.calls import OK, latencies, milliseconds
from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.cores import resident
from loadtests.service.locust_run import run_locust
from loadtests.service.measurement import capacity
from loadtests.service.recovery import recovery_seconds
from loadtests.service.services import dragoman

_SHARE = 0.3  # of the capacity, before and after
_BEFORE, _AFTER = 10.0, 20.0  # seconds
_SETTLE = 5.0  # seconds of overload after which it counts: an estimate of speed needs some


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a threshold is broken."""
    options = parser("loadtests.service.overload", "Several times what a fresh server can do, with deadlines.")
    options.add_argument("--factor", type=float, default=3.0, help="load, as a multiple of the capacity")
    options.add_argument("--overload-seconds", type=float, default=180.0, help="duration of the overload")
    options.add_argument("--deadline", type=float, default=2.0, help="seconds that each caller waits")
    asked = options.parse_args(arguments)
    traffic = traffic_options(asked) | {"deadline": asked.deadline}
    start, end = _BEFORE, _BEFORE + asked.overload_seconds
    with dragoman(asked.models, asked.out / "server.log") as service:
        limit = capacity(service, asked.out / "capacity", seconds=15.0, options=traffic)
        before = resident(service.process)
        rate, peak = _SHARE * limit, asked.factor * limit
        shape = {"arrivals": "spike", "rate": rate, "peak": peak, "spike-start": start, "spike-end": end}
        run = run_locust("open_loop", service, asked.out / "overload", {**traffic, **shape, "seconds": end + _AFTER})
        grown = resident(service.process) - before
    during = [call for call in run.calls if start + _SETTLE <= call.due < end]
    answered = [call for call in during if call.status == OK]
    refused = [call for call in during if call.retry_after]
    goodput = len(answered) / (end - start - _SETTLE)
    recovery = recovery_seconds(run.calls, start, end)
    picture = asked.out / "overload.png"
    plot_spike(picture, run.calls, start, end, recovery, f"{asked.factor:g} times the capacity")
    figures = {
        "capacity": limit,
        "rate": peak,
        "goodput": goodput,
        "goodput_share": goodput / limit,
        "deadline_seconds": asked.deadline,
        "accepted_ms": milliseconds(latencies(answered)),
        "refused": len(refused),
        "refused_ms": milliseconds([call.latency - call.late for call in refused]),
        "late": len(during) - len(answered) - len(refused),
        "late_share": (len(during) - len(answered) - len(refused)) / len(during),
        "recovery_seconds": recovery if math.isfinite(recovery) else None,
        "grown_mebibytes": grown / (1 << 20),
        "run": run.figures,
    }
    return finish(asked, "Overload", figures, picture)


if __name__ == "__main__":
    sys.exit(main())
