"""Options that the load test commands share, and the end of each: figures become files and a verdict."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtests.report import write_json, write_page
from loadtests.service.thresholds import Thresholds, load_thresholds

_ROOT = Path(__file__).parents[2]


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the common options; thresholds are beside the module, results go to ``runs``."""
    options = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    options.add_argument("--models", type=Path, default=Path("models"), help="directory of bundles")
    options.add_argument(
        "--out", type=Path, default=Path("runs") / module.rpartition(".")[2], help="directory for the results"
    )
    limits = _ROOT / f"{module.replace('.', '/')}.thresholds.yaml"
    options.add_argument("--thresholds", type=_thresholds, default=str(limits), metavar="FILE", help="YAML of limits")
    options.add_argument(
        "--sentences", type=Path, help="one per line (default: those of the corpora or the bundled ones)"
    )
    return options


def curve_options(options: argparse.ArgumentParser, *, step_seconds: float, capacity_seconds: float) -> None:
    """Add the durations of a measurement of latency against throughput."""
    options.add_argument("--step-seconds", type=float, default=step_seconds, help="duration of each rate")
    options.add_argument("--capacity-seconds", type=float, default=capacity_seconds, help="duration of a closed loop")


def traffic_options(asked: argparse.Namespace) -> dict[str, object]:
    """Return the options of the locustfiles that describe the traffic; create the directory for the results."""
    asked.out.mkdir(parents=True, exist_ok=True)
    return {"sentences": asked.sentences.resolve()} if asked.sentences else {}


def finish(asked: argparse.Namespace, title: str, figures: Mapping[str, Any], picture: Path) -> int:
    """Write ``summary.json`` and ``report.html`` and print the verdict.

    Returns:
        The exit status: 1 if a threshold is broken.
    """
    broken = asked.thresholds.violations(figures)
    figures = {**figures, "broken_thresholds": broken}
    write_json(asked.out / "summary.json", figures)
    write_page(asked.out / "report.html", title=title, figures=figures, pictures=[picture])
    for sentence in broken:
        print(f"threshold broken: {sentence}")
    print(f"results: {asked.out / 'report.html'}, {asked.out / 'summary.json'}")
    return 1 if broken else 0


def _thresholds(value: str) -> Thresholds:
    try:
        return load_thresholds(Path(value))
    except (OSError, ValueError) as error:  # now, and not after a minute of load
        raise argparse.ArgumentTypeError(str(error)) from error
