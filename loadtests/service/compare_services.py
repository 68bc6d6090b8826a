"""``make load-peer``: this server and CTranslate2 behind the same API, with the same weights, threads and load.

Poisson arrivals of sentences of mixed length, beam 4; the services take turns, rate by rate, and one of them is idle
while the other is called; both curves in one picture.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.curve import knee, sustained
from loadtests.service.measurement import Measured, measure_in_turn
from loadtests.service.plots import plot_services
from loadtests.service.services import ctranslate2, dragoman

_SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of what each service gave callers without pauses
_LIMITS = (0.25, 0.5, 1.0, 2.0)  # seconds; curves are compared at each of them
_BEAM = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit status 1 if a threshold is broken."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser("compare_services", "This server and CTranslate2 behind the same API, under the same load.")
    options.add_argument("--step-seconds", type=float, default=18.0, help="how long each rate lasts")
    options.add_argument("--capacity-seconds", type=float, default=12.0, help="how long each closed loop lasts")
    options.add_argument(
        "--server-option", action="append", default=[], help="of this server, such as --precision=int8"
    )
    options.add_argument("--peer-option", action="append", default=[], help="of the peer, such as --max-batch=64")
    asked = options.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    with (
        dragoman(asked.models, asked.out / "dragoman-server.log", asked.server_option) as ours,
        ctranslate2(asked.models, asked.out / "ctranslate2-server.log", asked.peer_option) as theirs,
    ):
        measured = measure_in_turn(
            {"dragoman": ours, "ctranslate2": theirs},
            asked.out,
            shares=_SHARES,
            step_seconds=asked.step_seconds,
            capacity_seconds=asked.capacity_seconds,
            options=traffic_options(asked) | {"beams": _BEAM},
        )
    picture = asked.out / "curves.png"
    curves = {name: one.curve for name, one in measured.items()}
    plot_services(picture, curves, _LIMITS, f"Poisson arrivals, mixed lengths, beam {_BEAM}")
    return finish(asked, arguments, "compare_services", _figures(measured), [picture])


def _figures(measured: Mapping[str, Measured]) -> dict[str, Any]:
    rows = []
    for limit in _LIMITS:
        rates = {name: sustained(one.curve, limit) for name, one in measured.items()}
        ours, theirs = rates["dragoman"], rates["ctranslate2"]
        rows.append({"p99_limit_ms": limit * 1e3} | rates | {"ratio": ours / theirs if theirs else float("inf")})
    return {
        "sustained": rows,
        "ratio": {f"p99_{row['p99_limit_ms']:g}_ms": row["ratio"] for row in rows},
        **{
            name: {
                "capacity": one.capacity,
                "knee": asdict(knee(one.curve)),
                "run": one.figures,
                "points": [asdict(point) for point in one.curve],
            }
            for name, one in measured.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
