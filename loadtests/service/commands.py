"""What the load test commands share: their options, and the end of each, where figures become files and a verdict."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.service.report import machine, write_json, write_page
from loadtests.service.thresholds import Thresholds, load_thresholds

_HERE = Path(__file__).parent


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Options that every command has; ``name`` is also that of its thresholds and of its folder of results."""
    options = argparse.ArgumentParser(prog=f"python -m loadtests.{name}", description=description)
    options.add_argument("--models", type=Path, default=Path("models"), help="directory of bundles")
    options.add_argument("--out", type=Path, default=Path("runs") / name, help="directory for the results")
    limits = _HERE / f"{name}.thresholds.yaml"
    options.add_argument("--thresholds", type=_thresholds, default=str(limits), metavar="FILE", help="YAML of limits")
    options.add_argument("--sentences", type=Path, help="one a line; without it the corpora's, or those bundled here")
    return options


def traffic_options(asked: argparse.Namespace) -> dict[str, object]:
    """What the locustfiles must be told of the traffic."""
    return {"sentences": asked.sentences.resolve()} if asked.sentences else {}


def finish(
    asked: argparse.Namespace, arguments: Sequence[str], name: str, figures: Mapping[str, Any], pictures: Sequence[Path]
) -> int:
    """Writes ``summary.json`` and ``report.html`` and prints the verdict.

    Returns:
        The exit status: 1 if a threshold is broken.
    """
    broken = asked.thresholds.violations(figures)
    said = {**figures, "broken_thresholds": broken, "machine": machine()}
    command = shlex.join(["python", "-m", f"loadtests.service.{name}", *arguments])
    write_json(asked.out / "summary.json", {"command": command, **said})
    write_page(
        asked.out / "report.html", title=name.replace("_", " "), command=command, figures=said, pictures=pictures
    )
    for sentence in broken:
        print(f"threshold broken: {sentence}")
    print(f"results: {asked.out / 'report.html'}, {asked.out / 'summary.json'}")
    return 1 if broken else 0


def _thresholds(value: str) -> Thresholds:
    try:
        return load_thresholds(Path(value))
    except (OSError, ValueError) as error:  # now, and not after a minute of load
        raise argparse.ArgumentTypeError(str(error)) from error
