"""``make load-peer``: this server and CTranslate2 behind the same API, with the same weights, threads and load.

Poisson arrivals of sentences of mixed length, beam 4; the services take turns, rate by rate, and one of them is idle
while the other is called; both curves in one picture.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.pictures import plot_services
from loadtests.service.commands import curve_options, finish, parser, traffic_options
from loadtests.service.curve import sustained
from loadtests.service.measurement import Measured, Plan, measure_in_turn
from loadtests.service.services import ctranslate2, dragoman

_SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of each service's capacity
_LIMITS = (0.25, 0.5, 1.0, 2.0)  # seconds; curves are compared at each of them
_BEAM = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a threshold is broken."""
    options = parser("loadtests.peer.compare", "This server and CTranslate2 behind the same API, under the same load.")
    curve_options(options, step_seconds=18.0, capacity_seconds=12.0)
    options.add_argument(
        "--server-option", action="append", default=[], help="of this server, such as --precision=int8"
    )
    options.add_argument("--peer-option", action="append", default=[], help="of the peer, such as --max-batch=64")
    asked = options.parse_args(arguments)
    traffic = traffic_options(asked) | {"beams": _BEAM}
    with (
        dragoman(asked.models, asked.out / "dragoman-server.log", asked.server_option) as ours,
        ctranslate2(asked.models, asked.out / "ctranslate2-server.log", asked.peer_option) as theirs,
    ):
        plan = Plan(_SHARES, asked.step_seconds, asked.capacity_seconds, traffic)
        measured = measure_in_turn({"dragoman": ours, "ctranslate2": theirs}, asked.out, plan)
    picture = asked.out / "curves.png"
    curves = {name: one.curve for name, one in measured.items()}
    plot_services(picture, curves, _LIMITS, f"Poisson arrivals, mixed lengths, beam {_BEAM}")
    return finish(asked, "This server and CTranslate2", _figures(measured), picture)


def _figures(measured: Mapping[str, Measured]) -> dict[str, Any]:
    rows = []
    for limit in _LIMITS:
        rates = {name: sustained(one.curve, limit) for name, one in measured.items()}
        ours, theirs = rates["dragoman"], rates["ctranslate2"]
        rows.append({"p99_limit_ms": limit * 1e3} | rates | {"ratio": ours / theirs if theirs else float("inf")})
    return {
        "sustained": rows,
        "ratio": {f"p99_{row['p99_limit_ms']:g}_ms": row["ratio"] for row in rows},
        **{name: one.summary() for name, one in measured.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
