"""``make load``: a minute of load on a fresh server, from light to too much; finds the knee, checks thresholds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.curve import knee
from loadtests.service.measurement import measure
from loadtests.service.plots import plot_curve
from loadtests.service.report import write_points
from loadtests.service.services import dragoman

_SHARES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the capacity
_STEP_SECONDS, _CAPACITY_SECONDS = 5.5, 10.0  # nine steps and the closed loop are a minute


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit status 1 if a threshold is broken."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser("load", "A minute of load on a fresh server, from light to too much.")
    options.add_argument("--step-seconds", type=float, default=_STEP_SECONDS, help="how long each rate lasts")
    options.add_argument(
        "--capacity-seconds", type=float, default=_CAPACITY_SECONDS, help="how long the closed loop lasts"
    )
    asked = options.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    with dragoman(asked.models, asked.out / "server.log") as service:
        measured = measure(
            service,
            asked.out / "load",
            shares=_SHARES,
            step_seconds=asked.step_seconds,
            capacity_seconds=asked.capacity_seconds,
            options=traffic_options(asked) | {"abandoned": 0.01},
        )
    bend = knee(measured.curve)
    picture = asked.out / "curve.png"
    plot_curve(picture, measured.curve, bend, "Latency against throughput")
    write_points(asked.out / "points.csv", measured.curve)
    figures = {
        "capacity": measured.capacity,
        "light": asdict(measured.curve[0]),
        "knee": asdict(bend),
        "run": measured.figures,
        "points": [asdict(point) for point in measured.curve],
    }
    return finish(asked, arguments, "load", figures, [picture])


if __name__ == "__main__":
    sys.exit(main())
