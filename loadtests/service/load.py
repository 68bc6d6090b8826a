"""``make load``: a minute of load on a fresh server, from light to too much; finds the knee, checks thresholds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from loadtests.pictures import plot_curve
from loadtests.report import write_csv
from loadtests.service.commands import curve_options, finish, parser, traffic_options
from loadtests.service.measurement import Plan, measure
from loadtests.service.services import dragoman

_SHARES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the capacity


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a threshold is broken."""
    options = parser("loadtests.service.load", "A minute of load on a fresh server, from light to too much.")
    curve_options(options, step_seconds=5.5, capacity_seconds=10.0)  # nine steps and the closed loop are a minute
    asked = options.parse_args(arguments)
    traffic = traffic_options(asked) | {"abandoned": 0.01}
    with dragoman(asked.models, asked.out / "server.log") as service:
        measured = measure(
            service, asked.out / "load", Plan(_SHARES, asked.step_seconds, asked.capacity_seconds, traffic)
        )
    figures = measured.summary()
    picture = asked.out / "curve.png"
    plot_curve(picture, measured.curve, measured.knee, "Latency against throughput")
    write_csv(asked.out / "points.csv", figures["points"])
    return finish(asked, "Load", figures | {"light": figures["points"][0]}, picture)


if __name__ == "__main__":
    sys.exit(main())
