"""What a load test leaves behind: figures as JSON and CSV, and a page for people."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loadtests.service.curve import Point

_PACKAGES = ("onnxruntime", "ctranslate2", "grpcio", "locust")


def machine() -> dict[str, str]:
    """Where and with what was measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version()} | {
        name: version(name) for name in _PACKAGES
    }


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes figures; infinite ones and those of no call become null."""
    path.write_text(json.dumps(_finite(figures), indent=1) + "\n", encoding="utf-8")


def write_points(path: Path, curve: Sequence[Point]) -> None:
    """Writes a CSV file with a row for each step of a run."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Point))
        writer.writerows(asdict(point).values() for point in curve)


def write_page(path: Path, *, title: str, command: str, figures: Mapping[str, Any], pictures: Sequence[Path]) -> None:
    """Writes an HTML page that needs no other file.

    Args:
        path: Where.
        title: Its heading.
        command: What was run.
        figures: The summary; lists of mappings become tables, ``broken_thresholds`` the verdict.
        pictures: PNG files to show.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    shown = [base64.b64encode(picture.read_bytes()).decode("ascii") for picture in pictures]
    page = templates.get_template("report.html").render(
        title=title, command=command, figures=_finite(figures), pictures=shown
    )
    path.write_text(page, encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
